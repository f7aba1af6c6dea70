import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cphloc.evaluation.prediction import CasePrediction
from cphloc.inference.localization import Localization
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import MergedClasses, Merging
from cphloc.structures.volume import Volume
from quality import job, page
from quality.data import Cases
from quality.systems import Trained, planned
from quality.tasks import TASKS, Task

PHANTOM = {
    "size": [24, 24],
    "positive": 1.0,
    "objects": [1, 1],
    "diameter_mm": [3, 6],
    "distractors": [0, 0],
    "cases": {"train": 6, "val": 4, "test": 1},
}
PHANTOM_3D = PHANTOM | {"size": [8, 16, 16], "voxel_mm": [1, 1, 1]}


class Answering:
    """A system that predicts a constant number of foreground voxels along the first axis."""

    def __init__(self, share):
        self.share = share
        self.trained = []

    def prepare(self, cases, folder):
        (folder / "prepared").write_text("")

    def train(self, cases, steps, seed, folder):
        self.trained.append(steps)

        def predict(volume):
            mask = np.zeros(volume.geometry.shape, np.uint8)
            mask[: round(self.share * len(mask))] = 1
            return CasePrediction(mask=mask)

        return Trained(predict, 1_500_000, 2)


@pytest.fixture(params=[PHANTOM, PHANTOM_3D], ids=["2d", "3d"])
def task(request, monkeypatch):
    arguments = request.param
    task = Task("phantom", "dice", ("cphloc", "other"), 5, 1, arguments)
    monkeypatch.setitem(TASKS, "phantom", task)
    systems = {"cphloc": Answering(1.0), "other": Answering(0.0)}
    monkeypatch.setattr(job, "make", systems.__getitem__)
    return task, systems


def test_the_page_compares_the_stored_predictions_case_by_case(task, tmp_path):
    task, _ = task
    for system in task.systems:
        job.run("phantom", system, 5, None, tmp_path / "phantom" / system / "steps-5")
    page.write(tmp_path, tmp_path / "QUALITY.md")
    text = (tmp_path / "QUALITY.md").read_text()
    whole = []
    for _, _volume, annotation in Cases(task).to_score():
        share = (annotation.mask > 0).mean()
        whole.append(2 * share / (1 + share))  # Dice of a mask that is 1 everywhere
    assert "### 5 steps, 4 validation cases" in text
    assert f"| cphloc | 1.5 | 2 | 5 | 0.0 | {np.mean(whole):.3f} (" in text
    assert "| other | 1.5 | 2 | 5 | 0.0 | 0.000 (0.000-0.000) |" in text
    assert f"| {np.mean(whole):+.3f} (" in text


def test_a_budget_of_time_is_converted_by_the_time_of_a_step_at_stated_steps(task, tmp_path, monkeypatch):
    _, systems = task
    clock = itertools.count(0, 20)  # every training takes 20 s, whatever its length
    monkeypatch.setattr(job, "cpu_seconds", lambda: next(clock))
    with pytest.raises(FileNotFoundError, match="run the budget of steps first"):
        job.run("phantom", "other", None, 0.5, tmp_path / "other" / "minutes-0.5")
    job.run("phantom", "other", 2, None, tmp_path / "other" / "steps-2")
    job.run("phantom", "other", 40, None, tmp_path / "other" / "steps-40")
    job.run("phantom", "other", None, 0.5, tmp_path / "other" / "minutes-0.5")
    assert systems["other"].trained == [2, 40, round(30 / (20 / 40))]


def test_the_time_of_children_counts():
    before = job.cpu_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert job.cpu_seconds() - before > 0.25  # the system counts in ticks of a hundredth of a second


def test_some_validation_cases_are_spread_over_the_split(task, tmp_path):
    task, _ = task
    job.run("phantom", "other", 1, None, tmp_path / "job", cases=2)
    ids = [case.id for case in Cases(task).dataset.cases("val")]
    assert {path.stem for path in (tmp_path / "job" / "predictions").iterdir()} == {ids[0], ids[2]}
    assert len(job.scores("phantom", tmp_path / "job").rows) == 2


def test_partly_annotated_cases_are_left_out_where_the_others_need_complete_ones():
    whole = Task("phantom", "dice", (), 1, 1, PHANTOM)
    assert len(list(Cases(whole).to_learn())) == 6
    partly = Task("phantom", "dice", (), 1, 1, PHANTOM | {"annotated": {"mask": 0.5}}, only_complete=True)
    known = [
        np.all(a.mask_known) if a.mask_known is not None else True
        for _, _, a in Cases(partly)._read(Cases(partly).dataset.cases("train"))
    ]
    assert len(list(Cases(partly).to_learn())) == sum(map(bool, known)) < 7


def test_a_merged_mask_gets_the_most_probable_class_of_the_image():
    both = {1: "cyst", 2: "node", 3: "duct"}
    merging = Merging({1: "duct", 2: "object"}, {1: {3: "duct"}, 2: {1: "cyst", 2: "node"}})
    mask = np.array([[0, 1, 2]], np.uint8)
    image = Volume(np.zeros((1, 1, 3), np.float32), Geometry.regular((1, 3)))
    probable = {"cyst": 0.2, "node": 0.4, "duct": 0.9}
    result = Localization(image, MergedClasses(both, {"mask": merging}), masks=mask, probabilities=probable)
    found = CasePrediction(mask=mask)
    assert planned.with_classes(found, result).mask.tolist() == [[0, 3, 2]]
    assert planned.with_classes(found, replace(result, classes=both)) is found
