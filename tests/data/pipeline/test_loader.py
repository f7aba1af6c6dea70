from itertools import islice

import numpy as np
import pytest
import torch

from cphloc.data.augment.augmentation import Augmentation
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.loader import Batch, PatchSamples, Steps, training_loader
from cphloc.data.pipeline.prepare import prepare
from cphloc.data.pipeline.preprocess import Preprocess

AUGMENT = [{"type": "Affine"}, {"type": "Flip"}, {"type": "GaussNoise"}, {"type": "Elastic", "p": 0.2}]


@pytest.fixture
def samples(request):
    size = getattr(request, "param", (40, 40))
    dataset = PhantomCases(size, cases={"train": 5}, objects=(1, 2), diameter_mm=(6, 8), distractors=(0, 0), positive=1)
    cases = prepare(dataset.cases("train"), Preprocess(len(size), None, tuple(parse_intensity("zscore", 1))), classes=1)
    return PatchSamples(cases, tuple(min(16, n) for n in size), Augmentation(AUGMENT, len(size)), 0.5, seed=3)


def _same(first: Batch, second: Batch) -> bool:
    return (
        first.ids == second.ids
        and torch.equal(first.image, second.image)
        and torch.equal(first.targets.masks, second.targets.masks)
    )


@pytest.mark.parametrize("samples", [(40, 40), (10, 40, 40)], indirect=True)
def test_batches_do_not_depend_on_workers_nor_on_resuming(samples):
    through = list(islice(training_loader(samples, Steps(2), workers=0), 6))
    resumed = list(islice(training_loader(samples, Steps(2, first=3), workers=0), 3))
    by_worker = list(islice(training_loader(samples, Steps(2), workers=1), 6))
    assert all(_same(a, b) for a, b in zip(through[3:], resumed, strict=True))
    assert all(_same(a, b) for a, b in zip(through, by_worker, strict=True))
    assert not _same(through[0], through[1])
    assert through[0].image.shape == (2, 1, *samples.patch)
    assert through[0].image.dtype == torch.float32


def test_ranks_share_the_batches_of_a_larger_one(samples):
    alone = next(iter(training_loader(samples, Steps(4), workers=0)))
    shared = [next(iter(training_loader(samples, Steps(2, rank=r, ranks=2), workers=0))) for r in range(2)]
    assert torch.equal(alone.image, torch.cat([b.image for b in shared]))


def test_every_case_once_in_each_pass_in_another_order(samples):
    ids = [samples[i].id for i in range(20)]
    passes = [tuple(ids[i : i + 5]) for i in range(0, 20, 5)]
    assert all(len(set(p)) == 5 for p in passes)
    assert len(set(passes)) > 1


def test_the_asked_fraction_of_patches_holds_an_object(samples):
    still = PatchSamples(samples.cases, (6, 6), Augmentation([], 2), foreground=0.5, seed=0)
    centred = [bool(still[i].annotation.mask.any()) for i in range(1, 40, 2)]
    anywhere = PatchSamples(samples.cases, (6, 6), Augmentation([], 2), foreground=0.0, seed=0)
    assert all(centred)
    assert np.mean([bool(anywhere[i].annotation.mask.any()) for i in range(40)]) < 0.7


def test_another_seed_gives_other_patches(samples):
    other = PatchSamples(samples.cases, samples.patch, samples.augmentation, 0.5, seed=4)
    assert not torch.equal(other[0].image, samples[0].image)
