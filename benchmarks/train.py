"""How many faces a second: this project's fit beside the original report's own loop.

    python benchmarks/train.py [--device cuda] [--steps 64]

- ``original``  JPEG files decoded by PIL one by one, a DataLoader with as many workers as there
  are threads, float32 in torch's default layout, Adam
- ``ours``      ``fer_utils.train.loop``: uint8 set on the device, augmentation by batch,
  channels-last, bfloat16 where the processor has units for it, Nesterov momentum

The same network, batches of 128 and the same faces (synthetic; the content doesn't matter),
scoring left out. The last column is the useful work, 3 × 2 × multiply-adds a face, as a share of
what this machine does in one large matrix product in the same precision.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fer_utils import synthetic, train
from fer_utils.model import FerCNN, layers

BATCH, WARM = 128, 16


class Pictures(Dataset):
    """A folder of JPEGs, opened one by one."""

    def __init__(self, folder: Path, labels: np.ndarray):
        self.files, self.labels = sorted(folder.iterdir()), labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int):
        grey = np.asarray(Image.open(self.files[i]).convert("L"), np.float32) / 255
        return torch.from_numpy(grey)[None], int(self.labels[i])


def original(faces, steps: int, device: str) -> float:
    """Faces a second of the report's loop, after a few steps."""
    model = FerCNN().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(faces.images):
            Image.fromarray(image).save(Path(folder) / f"{i:05}.jpg", quality=95)
        pictures = Pictures(Path(folder), faces.labels)
        loader = DataLoader(pictures, BATCH, shuffle=True, drop_last=True,
                            num_workers=torch.get_num_threads())  # fmt: skip
        done = 0
        while done < WARM + steps:
            for x, y in loader:
                if done == WARM:
                    began = time.perf_counter()
                loss = F.cross_entropy(model(x.to(device)), y.to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                done += 1
                if done == WARM + steps:
                    loss.item()
                    return steps * BATCH / (time.perf_counter() - began)
    raise AssertionError


class Enough(Exception):
    """The fit has done the steps that are timed."""


def ours(faces, steps: int, device: str, precision: str) -> float:
    """Faces a second of ``train.fit``, after a few steps; one epoch, so nothing is scored."""
    seen = []

    def note(event: dict) -> None:
        seen.append((event["step"], time.perf_counter()))
        if event["step"] >= WARM + steps:
            raise Enough

    try:
        recipe = replace(train.RECIPES["ours"], epochs=2)
        train.fit(FerCNN(), faces, recipe, {"mean": 0.5, "sd": 0.25}, device, None, precision, note)
    except Enough:
        pass
    (first, began), (last, ended) = seen[0], seen[-1]
    return (last - first) * BATCH / (ended - began)


def matrix_rate(device: str, precision: str) -> float:
    """Multiply-adds a second of one large matrix product."""
    a = torch.randn(2048, 2048, device=device, dtype=getattr(torch, precision))
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        (a @ a).sum().item()
        best = max(best, 2048**3 / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=64)
    args = parser.parse_args()
    macs = 3 * sum(row["macs"] for row in layers(FerCNN()))
    precision = train.best_precision(args.device)
    faces = synthetic.faces((WARM + args.steps) * BATCH)
    faces = replace(faces, split=np.full(len(faces), "Training"))
    rows = [
        ("original", original(faces, args.steps, args.device), "float32"),
        ("ours", ours(faces, args.steps, args.device, precision), precision),
    ]
    print(f"{args.device}, {torch.get_num_threads()} threads, batches of {BATCH}")
    print(f"{'loop':10}{'precision':>10}{'faces/s':>10}{'ratio':>8}{'of matrix product':>20}")
    for name, speed, kind in rows:
        share = speed * macs / matrix_rate(args.device, kind)
        print(f"{name:10}{kind:>10}{speed:10.0f}{speed / rows[0][1]:7.2f}×{share:20.0%}")


if __name__ == "__main__":
    main()
