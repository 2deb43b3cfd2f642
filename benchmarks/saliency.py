"""Attribution maps raced against captum: `python benchmarks/saliency.py`.

CPU time (user + system) of one call, on one thread: the median over rounds. In each round all
have their turn, in random order, so that a machine's other work slows them alike. Weights are random,
faces are noise: neither changes the work. captum runs in three ways:

- as its documentation has it: all faces, and all their 50 steps, in one pass
- in chunks of 32 rows, which suit it better
- so on a network that is frozen and lies in channels-last memory, which suit it better still
"""

import argparse
import copy
import random
import statistics
import time
import warnings

import torch
from captum import attr

from fer_utils import saliency
from fer_utils.model import FerCNN

METHODS = ("gradient", "grad_cam", "smoothgrad", "integrated_gradients", "occlusion")


def captum(method, model, x, t, chunk=None):
    """captum's map, ``chunk`` rows a pass (None: all at once)."""
    if chunk and len(x) > chunk:
        parts = zip(x.split(chunk), t.split(chunk), strict=True)
        return torch.cat([captum(method, model, *part, chunk) for part in parts])
    if method == "gradient":
        return attr.Saliency(model).attribute(x, t, abs=False)
    if method == "grad_cam":
        small = attr.LayerGradCam(model, model.layer4[0]).attribute(x, t)
        return attr.LayerAttribution.interpolate(small, x.shape[2:], "bilinear")
    if method == "smoothgrad":
        return attr.NoiseTunnel(attr.Saliency(model)).attribute(
            x, nt_type="smoothgrad", nt_samples=50, stdevs=0.15 * float(x.max() - x.min()),
            nt_samples_batch_size=chunk and max(1, chunk // len(x)), target=t, abs=False,
        )  # fmt: skip
    if method == "integrated_gradients":
        return attr.IntegratedGradients(model).attribute(
            x, target=t, n_steps=50, internal_batch_size=chunk
        )
    return attr.Occlusion(model).attribute(
        x, (1, 8, 8), (1, 4, 4), 0, t, perturbations_per_eval=max(1, (chunk or 1) // len(x))
    )


def ours(method, model, x, t):
    layer = {"layer": model.layer4[0]} if method == "grad_cam" else {}
    return getattr(saliency, method)(model, x, t, **layer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="rounds for many faces; 10 × for one")
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = FerCNN().eval()
    quiet = copy.deepcopy(model).requires_grad_(False).to(memory_format=torch.channels_last)
    ways = {
        "captum": lambda method, x, t: captum(method, model, x, t),
        "in chunks of 32": lambda method, x, t: captum(method, model, x, t, 32),
        "and frozen, channels-last": lambda method, x, t: captum(method, quiet, x, t, 32),
        "ours": lambda method, x, t: ours(method, model, x, t),
    }
    print(f"| method | faces | {' | '.join(f'{way}, ms' for way in ways)} | ratios |")
    print("|---" * (len(ways) + 3) + "|")
    for faces in options.faces:
        x, t = torch.rand(faces, 1, 48, 48), torch.arange(faces) % 7
        for method in options.methods:
            spent = {way: [] for way in ways}
            for _ in range(options.repeat * (10 if faces == 1 else 1)):
                for way in random.sample(list(ways), len(ways)):
                    start = time.process_time()
                    ways[way](method, x, t)
                    spent[way].append(1000 * (time.process_time() - start))
            *rivals, own = (statistics.median(kept) for kept in spent.values())
            cells = [f"{ms:.3g}" for ms in (*rivals, own)]
            ratios = ", ".join(f"{ms / own:.1f}×" for ms in rivals)
            print(f"| {method} | {faces} | {' | '.join(cells)} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
