"""One process or several: what ``torchrun`` started, and the little that a fit needs of it.

``torchrun --nproc-per-node=2 -m fer_utils.train --name NAME`` fits one network with two processes:
each takes its share of every batch, gradients are averaged (DistributedDataParallel; gloo on
CPU, nccl on GPU), the first process alone scores and writes. Batch norm and ``--balance`` count
each process's own share. Several hosts share the folder of runs, or start anew after a stop.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fer_utils.train.recipe import TrainingError


@contextmanager
def joined(device: str):
    """Join the processes that torchrun started, for the block; yields this one's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes fit together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number among them; the first is 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: Tensor) -> Tensor:
    """This process's rows of a batch."""
    return batch[rank() :: count()]


def wrap(model: nn.Module) -> nn.Module:
    """The network, its gradients averaged over the processes."""
    return DistributedDataParallel(model) if count() > 1 else model


def check(batch: int, epochs_done: int) -> None:
    """Raises TrainingError where a batch can't be shared, or not all see the checkpoint."""
    if batch % count():
        raise TrainingError(f"--batch {batch} can't be shared evenly by {count()} processes")
    done = [epochs_done] * count()
    if count() > 1:
        dist.all_gather_object(done, epochs_done)
    if len(set(done)) > 1:
        raise TrainingError(
            f"the processes go on from different epochs ({done}): let all hosts share the "
            "folder of runs (FER_RUNS), or remove the begun run"
        )
