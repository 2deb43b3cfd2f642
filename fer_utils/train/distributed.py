"""One process or several: what ``torchrun`` started, and the little that a fit needs of it.

``torchrun --nproc-per-node=2 -m fer_utils.train --name NAME`` fits one network with two processes:
each takes its share of every batch, gradients are averaged (DistributedDataParallel; gloo on
CPU, nccl on GPU), the first process alone scores and writes. Batch norm counts each process's
own share. Several hosts share the folder of runs, or start anew after a stop.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fer_utils.train.recipe import Recipe, TrainingError


@dataclass(frozen=True)
class Processes:
    """This process among those that fit together.

    Attributes:
        rank: its number, the first is 0.  count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return batch[self.rank :: self.count]

    def wrap(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model) if self.count > 1 else model

    def check(self, recipe: Recipe, epochs_done: int) -> None:
        """Raises TrainingError where a batch can't be shared, or not all see the checkpoint."""
        if recipe.batch % self.count:
            raise TrainingError(
                f"--batch {recipe.batch} can't be shared evenly by {self.count} processes"
            )
        if self.count > 1:
            done: list[int | None] = [None] * self.count
            dist.all_gather_object(done, epochs_done)
            if len(set(done)) > 1:
                raise TrainingError(
                    f"the processes go on from different epochs ({done}): let all hosts share the "
                    "folder of runs (FER_RUNS), or remove the begun run"
                )


ALONE = Processes()


@contextmanager
def started(device: str):
    """The processes that torchrun started, joined for the block; yields (Processes, device)."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), count), device
    finally:
        dist.destroy_process_group()
