"""A short run over every target: the kept inputs, and some changes of each. ``make fuzz`` runs for an hour."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest
from fuzz.mutate import mutated
from fuzz.targets import SEEDS, TARGETS, Target, valid_files

SECONDS = 2.0
MEGABYTES = 500
CHANGES = 25


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_file_of_a_stranger_is_read_or_refused_in_time_and_memory(target: Target, tmp_path: Path, capfd):
    draw, seeds = random.Random(target.name), target.seeds
    assert seeds, f"{SEEDS / target.name} holds no input"
    contents = [*seeds, *(mutated(draw.choice(seeds), draw) for _ in range(CHANGES))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, content in enumerate(contents):
        folder = tmp_path / str(number)
        folder.mkdir()
        started = time.process_time()
        target(content, folder)
        assert time.process_time() - started < SECONDS + (number == 0)  # the first imports libraries
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def test_every_target_starts_from_a_file_that_it_accepts(tmp_path: Path):
    for target in TARGETS:
        accepted = []
        for number, content in enumerate(valid_files()[target.name]):
            (folder := tmp_path / target.name / str(number)).mkdir(parents=True)
            accepted.append(target(content, folder))
        assert any(accepted) or target.name in ("segments", "lock", "entry"), target.name
