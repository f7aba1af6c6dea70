"""Training batches of patches, independent of the number of workers and of interruptions of the run."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cphloc.data.augment.augmentation import Augmentation, swap_classes
from cphloc.data.pipeline.draws import Draws
from cphloc.data.pipeline.patches import cut, draw_foreground, draw_start
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.padding import Fill
from cphloc.structures.rung import Rung


@dataclass
class Batch:
    """One training batch of patches.

    Args:
        image: ``(N, C, *S)`` float32.
        targets: annotations of the N patches.
        ids: case id of each patch.
    """

    image: Tensor
    targets: Targets
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the batch to a device.

        Args:
            device: the target device.
            non_blocking: whether copies from pinned memory are asynchronous.
        """
        return Batch(self.image.to(device, non_blocking=non_blocking), self.targets.to(device, non_blocking), self.ids)


@dataclass
class Sample:
    """One training patch.

    Args:
        image: ``(C, *S)`` float32.
        annotation: annotation on the grid of the patch.
        id: id of the case that the patch is sampled from.
    """

    image: Tensor
    annotation: Annotation
    id: str


class PatchSamples(Dataset[Sample]):
    """Map-style dataset of training patches, in which patch ``i`` depends only on the seed and on ``i``.

    `cphloc.data.pipeline.draws.Draws` chooses the case of each patch.

    Args:
        cases: preprocessed cases that patches are sampled from.
        patch: size of a patch ``(*S)`` in voxels.
        augmentation: augmentation of the patches.
        foreground: fraction of patches in [0, 1] that are centred on an object.
        seed: random seed.
        fill: values beyond the edge of an image.
        rungs: name of each head -> weakest annotation that it learns from.
    """

    def __init__(
        self,
        cases: PreparedCases,
        patch: tuple[int, ...],
        augmentation: Augmentation,
        foreground: float = 0.33,
        seed: int = 0,
        fill: Fill = "zero",
        rungs: Mapping[str, Rung | None] | None = None,
    ) -> None:
        self.cases = cases
        self.patch = tuple(patch)
        self.augmentation = augmentation
        self.draws = Draws(cases, rungs, foreground, seed)
        self.seed = seed
        self.fill: Fill = fill

    def __getitem__(self, index: int) -> Sample:
        chosen = self.draws[index]
        prepared = self.cases[chosen.case]
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, index)))
        around = None if chosen.label is None else draw_foreground(prepared.foreground, rng, chosen.label)
        start = draw_start(prepared.image.shape[1:], self.patch, rng, around)
        drawn = self.augmentation.draw(rng, self.patch, prepared.geometry.spacing_mm)
        image, annotation = cut(prepared, start, self.patch, drawn.warp, self.fill)
        if drawn.swap:
            annotation = swap_classes(annotation, drawn.swap)
        image, annotation = self.augmentation.apply(image, annotation, rng)
        return Sample(torch.from_numpy(image), annotation, prepared.id)

    def collate(self, samples: list[Sample]) -> Batch:
        """Stack patches of equal size into a batch."""
        targets = Targets.collate([s.annotation for s in samples], self.patch, self.cases.classes)
        return Batch(torch.stack([s.image for s in samples]), targets, tuple(s.id for s in samples))


class Steps(Sampler[list[int]]):
    """Infinite batch sampler of consecutive patch indices, disjoint between the processes of a distributed run.

    Args:
        batch: patches per batch.
        first: index of the first batch; above 0 for a resumed run.
        rank: index of this process, from 0.
        ranks: number of processes (world size).

    >>> import itertools
    >>> list(itertools.islice(Steps(batch=2, first=1, rank=1, ranks=2), 2))
    [[6, 7], [10, 11]]
    """

    def __init__(self, batch: int, first: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.batch, self.first, self.rank, self.ranks = batch, first, rank, ranks

    def __iter__(self) -> Iterator[list[int]]:
        for number in itertools.count(self.first):
            start = (number * self.ranks + self.rank) * self.batch
            yield list(range(start, start + self.batch))


def training_loader(samples: PatchSamples, steps: Steps, workers: int = 1) -> DataLoader[Sample]:
    """Build an infinite data loader of training batches; each item is a `Batch`.

    Args:
        samples: the patches.
        steps: batch sampler of patch indices.
        workers: number of worker processes; 0 loads in the main process. It does not change the batches.
    """
    return DataLoader(
        samples,
        batch_sampler=steps,
        num_workers=workers,
        collate_fn=samples.collate,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
        worker_init_fn=_prepare_worker,
    )


def _prepare_worker(worker: int) -> None:
    """Limit a worker to one thread and ignore SIGINT and SIGTERM, which the main process handles."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
