"""The network of the report, and a deeper one; each drawn by its own table.

======== ============================ ============= ========= ==========
block    layers                       output        field     parameters
======== ============================ ============= ========= ==========
layer1   Conv 5×5 · LeakyReLU · BN      32 × 48 × 48     5 × 5        896
         MaxPool 2                      32 × 24 × 24     6 × 6          0
layer2   Conv 3×3 · LeakyReLU · BN      64 × 24 × 24   10 × 10      18624
         MaxPool 2                      64 × 12 × 12   12 × 12          0
layer3   Conv 3×3 · LeakyReLU · BN     128 × 12 × 12   20 × 20      74112
         MaxPool 2                     128 × 6 × 6     24 × 24          0
layer4   Conv 3×3 · LeakyReLU · BN     128 × 6 × 6     40 × 40     147840
         MaxPool 2                     128 × 3 × 3     48 × 48          0
fc       Linear 1152→256 · ReLU · BN   256                all      295680
         Linear  256→128 · ReLU · BN   128                all       33152
         Linear  128→7                 7                  all         903
======== ============================ ============= ========= ==========

571,207 parameters. Source: a student report, NTU Machine Learning 2019, homework 3; the
block's order (activation before batch norm) and the key names are those of its published
code, so that weights published with it load with ``strict=True``.
"""

from __future__ import annotations

from torch import Tensor, nn

from fer_utils.inspection import blank, calls, explained

SLOPE = 0.05  # LeakyReLU's, below zero


def block(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    """Conv (same size) → LeakyReLU → BatchNorm → MaxPool 2: half the height, half the width."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2),
        nn.LeakyReLU(SLOPE),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2),
    )


class FerCNN(nn.Module):
    """Four convolutional blocks and three linear layers.

    Args:
        classes: number of outputs, 7 for FER2013's expressions.

    ``forward`` takes float32 ``(b, 1, 48, 48)``, scaled as the run's ``scale`` does, and
    returns logits ``(b, classes)`` in nats.
    """

    def __init__(self, classes: int = 7):
        super().__init__()
        self.layer1 = block(1, 32, 5)
        self.layer2 = block(32, 64, 3)
        self.layer3 = block(64, 128, 3)
        self.layer4 = block(128, 128, 3)
        self.fc = nn.Sequential(
            nn.Linear(128 * 3 * 3, 256), nn.ReLU(), nn.BatchNorm1d(256),
            nn.Linear(256, 128), nn.ReLU(), nn.BatchNorm1d(128),
            nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (b, 1, 48, 48) -> (b, classes)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.flatten(1))


class Residual(nn.Module):
    """ReLU(skip(x) + BN(conv(ReLU(BN(conv(x)))))): He et al. 2016, doi:10.1109/CVPR.2016.90.

    The last norm's scale starts at 0, so that every block begins as its skip (Goyal et al.
    2017, arXiv:1706.02677).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out), nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )  # fmt: skip
        self.skip = nn.Identity()
        if (channels_in, stride) != (channels_out, 1):
            self.skip = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )
        self.relu = nn.ReLU()
        nn.init.zeros_(self.body[4].weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.skip(x) + self.body(x))


class FerResNet(nn.Module):
    """The deeper network: 13 convolutions and three of 1×1 on the skips, in and out as ``FerCNN``.

    ======== =============================== ============= ==========
    block    layers                          output        parameters
    ======== =============================== ============= ==========
    stem     Conv 5×5 · BN · ReLU · Pool      32 × 24 × 24        864
    stage1   one Residual, 32                 32 × 24 × 24      18560
    stage2   two Residual, 32→64              64 × 12 × 12     131712
    stage3   two Residual, 64→128            128 × 6 × 6       525568
    stage4   one Residual, 128→256           256 × 3 × 3       919040
    fc       mean · Dropout · Linear         7                   1799
    ======== =============================== ============= ==========
    """

    def __init__(self, classes: int = 7):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
        )  # fmt: skip
        self.stage1 = nn.Sequential(Residual(32, 32, 1))
        self.stage2 = nn.Sequential(Residual(32, 64, 2), Residual(64, 64, 1))
        self.stage3 = nn.Sequential(Residual(64, 128, 2), Residual(128, 128, 1))
        self.stage4 = nn.Sequential(Residual(128, 256, 2))
        self.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(256, classes))

    def forward(self, x: Tensor) -> Tensor:  # (b, 1, 48, 48) -> (b, classes)
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


NETWORKS = {"FerCNN": FerCNN, "FerResNet": FerResNet}  # what a run's config may name


def layers(model: nn.Module) -> list[dict]:
    """One row a leaf layer, measured on a blank input: what goes in, what comes out, its cost.

    Returns:
        dicts with ``name``, ``kind``, ``input`` and ``output`` (shapes without the batch),
        ``kernel`` ((height, width) of convolutions and pools, else None), ``parameters``, and
        ``macs``: multiply-adds for one face (convolutions and linear layers; the rest is below
        one per cent). Layers that take or return no tensor are left out.
    """
    rows = []
    with explained(model) as net:
        record = calls(net, blank(net))
    for name, module, given, output in record:
        if not (isinstance(given, Tensor) and isinstance(output, Tensor)):
            continue
        macs, kernel = 0, getattr(module, "kernel_size", None)
        if isinstance(module, nn.Conv2d | nn.Linear):
            channels = module.weight.shape[0]
            macs = module.weight.numel() * (output[0].numel() // channels)
        rows.append({
            "name": name, "kind": type(module).__name__,
            "input": tuple(given.shape[1:]), "output": tuple(output.shape[1:]),
            "kernel": (kernel, kernel) if isinstance(kernel, int) else kernel,
            "parameters": sum(p.numel() for p in module.parameters()), "macs": macs,
        })  # fmt: skip
    return rows


def blocks(rows: list[dict]) -> list[str]:
    """The block of each row of ``layers``: the first parts of its name, as few as tell two apart."""
    names = [row["name"].split(".") for row in rows]
    for depth in range(1, max(map(len, names)) + 1):
        found = [".".join(name[:depth]) for name in names]
        if len(set(found)) > 1:
            break
    return found
