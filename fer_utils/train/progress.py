"""What a fit says while it works."""

from __future__ import annotations

import sys
import time

from fer_utils.train.recipe import Recipe


def progress_line(recipe: Recipe, faces_per_epoch: int):
    """Prints loss, accuracy, faces a second and time left: one line that moves on a terminal,
    one line an epoch elsewhere."""
    began, live = time.perf_counter(), sys.stderr.isatty()
    first: list[float] = []

    def show(event: dict) -> None:
        now = time.perf_counter()
        if "teacher" in event:
            print(f"asking teacher {event['teacher']}", file=sys.stderr, flush=True)
        elif "step" in event:
            if not live:
                return
            done = event["epoch"] - 1 + event["step"] / event["steps"]
            first.append(done)
            passed = done - first[0]
            speed = passed * faces_per_epoch / (now - began) if passed else 0
            left = (recipe.epochs - done) * faces_per_epoch / speed if speed else 0
            text = f"epoch {event['epoch']}/{recipe.epochs}  loss {event['loss']:.3f}"
            text += f"  {speed:,.0f} faces/s  {left / 60:.1f} min left"
            print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
        else:
            text = (
                f"epoch {event['epoch']:>3}/{recipe.epochs}  training {event['train_loss']:.3f} nats "
                f"{event['train_accuracy']:.1%}  PublicTest {event['valid_loss']:.3f} nats "
                f"{event['valid_accuracy']:.1%}  {faces_per_epoch / event['seconds']:,.0f} faces/s"
            )
            print(("\r" if live else "") + text, file=sys.stderr, flush=True)

    return show
