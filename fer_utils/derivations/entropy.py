"""Softmax with cross-entropy: loss, gradient and Hessian in the logits, in nats.

logits are (b, k); targets class indices (b,), or distributions (b, k) in floating point whose
rows need not sum to 1. ``label_smoothing`` α moves each target to (1 − α) y + α/k;
``temperature`` T divides the logits before the softmax. ValueError where targets don't fit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def log_softmax(logits: Tensor) -> Tensor:
    """log ŷ = z − max z − log Σ exp(z − max z): no exponential above 1, hence no overflow."""
    shifted = logits - logits.amax(1, keepdim=True)
    return shifted - shifted.exp().sum(1, keepdim=True).log()


def softmax_cross_entropy(logits, targets, label_smoothing=0.0, temperature=1.0):
    """ℓ = −Σ y log ŷ, one value a row, unaveraged."""
    y = _distribution(logits, targets, label_smoothing)
    return -(y * log_softmax(logits / temperature)).sum(1)


def softmax_cross_entropy_grad(logits, targets, label_smoothing=0.0, temperature=1.0):
    """∂ℓ/∂z = (ŷ Σy − y)/T, one row a sample, unaveraged; ŷ − y where Σy = 1 and T = 1."""
    y = _distribution(logits, targets, label_smoothing)
    predicted = log_softmax(logits / temperature).exp()
    return (predicted * y.sum(1, keepdim=True) - y) / temperature


def softmax_cross_entropy_hessian(logits, temperature=1.0):
    """(b, k, k): (diag ŷ − ŷŷᵀ)/T² for targets that sum to 1; Σy times that for others.

    Positive semidefinite where Σy ≥ 0, so that the loss is convex in the logits.
    """
    predicted = log_softmax(logits / temperature).exp()
    outer = predicted[:, :, None] * predicted[:, None, :]
    return (torch.diag_embed(predicted) - outer) / temperature**2


def _distribution(logits, targets, label_smoothing):
    b, k = logits.shape
    if targets.shape == (b, k) and targets.is_floating_point():
        y = targets
    elif targets.shape == (b,) and not targets.is_floating_point():
        if b and not 0 <= int(targets.min()) <= int(targets.max()) < k:
            raise ValueError(f"targets must lie in 0…{k - 1}, not {targets.unique().tolist()}")
        y = F.one_hot(targets.long(), k).to(logits.dtype)
    else:
        raise ValueError(
            f"targets {tuple(targets.shape)} of {targets.dtype} fit neither class indices ({b},) "
            f"nor distributions ({b}, {k}) in floating point"
        )
    return (1 - label_smoothing) * y + label_smoothing / k
