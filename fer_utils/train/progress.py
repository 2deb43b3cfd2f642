"""What a fit says on stderr: readable on a terminal, in a log file and in any encoding."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from fer_utils import data
from fer_utils.train.loop import labelled
from fer_utils.train.recipe import Recipe


def progress_line(recipe: Recipe):
    """A function for ``make_run``'s ``progress``.

    It says what is known of the faces, after a few steps how long the fit will take, then a line
    an epoch, and on a terminal a moving line. That is tqdm's: where a console cannot write its
    blocks it is made of ASCII.
    """
    bar, number, steps, seconds = None, 0, [], []

    def say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()

    def after_step(event: dict) -> None:
        nonlocal bar
        total = recipe.epochs * number
        done = round((event["epoch"] - 1 + event["step"] / event["steps"]) * number)
        if bar is None:  # a fit that goes on begins here
            bar = tqdm(total=total, initial=done, unit=" faces", unit_scale=True, smoothing=0,
                       disable=None, leave=False)  # fmt: skip
        text = f"epoch {event['epoch']}/{recipe.epochs}, loss {event['loss']:.3f}"
        bar.set_description(text, refresh=False)
        bar.update(done - bar.n)
        steps.append((done, time.perf_counter()))
        if len(steps) == 2:
            (before, start), (after, end) = steps
            minutes = (end - start) / (after - before) * (total - before) / 60
            say(f"about {minutes:.1f} min to the end of epoch {recipe.epochs}")

    def after_epoch(row: dict) -> None:
        seconds.append(row["seconds"])
        minutes = sum(seconds) / len(seconds) / 60  # an epoch
        say(
            f"epoch {row['epoch']:>3}/{recipe.epochs}  "
            f"training {row['train_loss']:.3f} nats {row['train_accuracy']:.1%}  "
            f"PublicTest {row['valid_loss']:.3f} nats {row['valid_accuracy']:.1%}  "
            f"{number / row['seconds']:,.0f} faces/s  "
            f"{minutes * (recipe.epochs - row['epoch']):.1f} of "
            f"{minutes * recipe.epochs:.1f} min left"
        )

    def show(event: dict) -> None:
        nonlocal number
        if "faces" in event:
            number = len(labelled(event["faces"].of("Training")))
            say("\n".join(data.summary_lines(event["faces"])))
        elif "step" in event:
            after_step(event)
        else:
            after_epoch(event)

    return show
