"""Attribution maps raced against captum: `python benchmarks/saliency.py`.

Each cell runs alone in a fresh process, on one thread, the two libraries in turn, best of
``--repeat`` runs: CPU seconds (user + system) of the call, and how far it raised the
process's peak memory. Weights are random, faces are noise: neither changes the work.

captum is called as its documentation does. SmoothGrad and integrated gradients then send all
50 steps of all faces through the network at once; a second row holds them at 64 rows at a
time, which captum offers and which suits it better.
"""

import argparse
import functools
import json
import multiprocessing
import resource
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

METHODS = {  # name: faces (small enough for captum's memory)
    "gradient": 256,
    "grad_cam": 256,
    "smoothgrad": 64,
    "integrated_gradients": 64,
    "occlusion": 64,
}

STEPS = ("smoothgrad", "integrated_gradients")


def ours(name, model, x, t):
    from fer_utils import saliency

    return getattr(saliency, name)(model, x, t)


def captum(name, model, x, t, lean=False):
    from captum import attr

    if name == "gradient":
        return attr.Saliency(model).attribute(x, t, abs=False)
    if name == "grad_cam":
        small = attr.LayerGradCam(model, model.layer4[0]).attribute(x, t)
        return attr.LayerAttribution.interpolate(small, x.shape[2:], "bilinear")
    if name == "smoothgrad":
        spread = 0.15 * float(x.max() - x.min())
        return attr.NoiseTunnel(attr.Saliency(model)).attribute(
            x,
            nt_type="smoothgrad",
            nt_samples=50,
            nt_samples_batch_size=1 if lean else None,
            stdevs=spread,
            target=t,
            abs=False,
        )
    if name == "integrated_gradients":
        return attr.IntegratedGradients(model).attribute(
            x, target=t, n_steps=50, internal_batch_size=64 if lean else None
        )
    return attr.Occlusion(model).attribute(x, (1, 8, 8), (1, 4, 4), baselines=0, target=t)


def one(library, name, faces, threads, pipe):
    """In a child: warm up on two faces, run, send CPU seconds and MB of peak memory."""
    from fer_utils.model import FerCNN

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = FerCNN().eval()
    x, t = torch.rand(faces, 1, 48, 48), torch.arange(faces) % 7
    call = {"ours": ours, "captum": captum, "captum, 64 rows": functools.partial(captum, lean=True)}
    call = call[library]
    if name in ("gradient", "grad_cam"):
        call(name, model, x[:2], t[:2])
    else:
        call("gradient", model, x[:2], t[:2])
    before = resource.getrusage(resource.RUSAGE_SELF)
    call(name, model, x, t)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send((seconds, (after.ru_maxrss - before.ru_maxrss) / 1024))


def measure(*job):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=one, args=(*job, there))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{job[0]} {job[1]} failed (exit {child.exitcode})")
    return here.recv()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--json", help="also write the table to this file")
    options = parser.parse_args()
    rows = []
    print("| method | faces | against | its CPU-s | ours CPU-s | ratio | its MB | ours MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.methods:
        rivals = ["captum", "captum, 64 rows"][: 2 if name in STEPS else 1]
        runs = {library: [] for library in (*rivals, "ours")}
        for _ in range(options.repeat):
            for library, kept in runs.items():
                kept.append(measure(library, name, METHODS[name], options.threads))
        best = {library: tuple(map(min, zip(*kept, strict=True))) for library, kept in runs.items()}
        fast, little = best["ours"]
        for rival in rivals:
            slow, much = best[rival]
            rows.append(
                {"method": name, "faces": METHODS[name], "against": rival, "cpu_s": slow,
                 "ours_cpu_s": fast, "ratio": slow / fast, "mb": much, "ours_mb": little}
            )  # fmt: skip
            print(
                f"| {name} | {METHODS[name]} | {rival} | {slow:.2f} | {fast:.2f} "
                f"| {slow / fast:.1f}× | {much:.0f} | {little:.0f} |",
                flush=True,
            )
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
