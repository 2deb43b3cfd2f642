"""Fit a network and write it as a run: ``python -m fer_utils.train --run NAME``.

- ``fit``          the loop, to be read from top to bottom
- ``recipe``       what can be chosen, the two recipes of the report, optimiser and learning rate
- ``augment``      an epoch's chance, and what it does to a batch of faces
- ``progress``     what a fit says while it works
- ``processes``    several processes or hosts, by torch's own engine
- ``checkpoint``   what is kept after each epoch, and gone on from
- ``whole``        a whole run: fit, stored weights, scores, and the ledger of PrivateTest
- ``epochs``       what choosing the epoch on PrivateTest would have given

It imports with numpy, torch and safetensors alone.
"""

from fer_utils.train.augment import augment, draws
from fer_utils.train.loop import evaluate, fit, to_device
from fer_utils.train.pipeline import make_run, score
from fer_utils.train.progress import progress_line
from fer_utils.train.recipe import (
    EPOCHS_SYNTHETIC,
    RECIPES,
    Recipe,
    TrainingError,
    learning_rate,
    make_optimiser,
)
