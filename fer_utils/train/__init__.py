"""Fit a network and write it as a run: ``python -m fer_utils.train --run NAME``.

- ``loop``         the fit, to be read from top to bottom; its checkpoints
- ``recipe``       what can be chosen, the two recipes of the report, optimiser, augmentation
- ``distributed``  several processes or hosts, by torch's own engine
- ``pipeline``     a whole run: fit, stored weights, scores, ledger of PrivateTest
- ``progress``     what it says meanwhile

It needs torch, safetensors, filelock, tqdm and the readers' numpy, pandas and Pillow, nothing of
the report.
"""

from fer_utils.train.loop import best_precision, evaluate, fit, to_device
from fer_utils.train.pipeline import exclusive_lock, make_run, score
from fer_utils.train.progress import progress_line
from fer_utils.train.recipe import (
    EPOCHS_SYNTHETIC,
    RECIPES,
    Recipe,
    TrainingError,
    augment,
    epoch_rng,
    learning_rate,
    make_optimiser,
    recorded,
)
