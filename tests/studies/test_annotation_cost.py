"""Minutes of annotation, counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cphloc.data.datasets.phantom import PhantomCases
from cphloc.errors import InputError
from cphloc.studies.measures.annotation_cost import SECONDS, AnnotationCost


def trained(annotated):
    """What the measure looks at: ten training cases."""
    data = PhantomCases((32, 32), cases={"train": 10}, annotated=annotated, diameter_mm=(4, 6), distractors=(0, 0))
    return SimpleNamespace(pipeline=SimpleNamespace(dataset=data))


def test_every_case_costs_what_its_strongest_rung_takes():
    found = AnnotationCost(vary=2.0)(trained({"region": 0.8, "boxes": 0.5, "mask": 0.1}))[""]
    of = SECONDS
    weak, strong = 2 * of["label"] + 3 * of["region"], 4 * of["boxes"] + 1 * of["mask"]
    assert found == pytest.approx(
        {
            "annotation_minutes": (weak + strong) / 60,
            "annotation_minutes_low": (weak + strong / 2) / 60,
            "annotation_minutes_high": (weak + strong * 2) / 60,
        }
    )


def test_stated_seconds_replace_the_published_ones():
    found = AnnotationCost({"mask": 600}, vary=1.0)(trained({"mask": 1.0}))[""]
    assert set(found.values()) == {100.0}
    unused = AnnotationCost({"label": 0.0, "mask": 60}, vary=1.0)(trained({"mask": 0.2}))[""]
    assert set(unused.values()) == {2.0}


@pytest.mark.parametrize(("arguments", "what"), [({"seconds": {"point": 2}}, "point"), ({"vary": 0.5}, "at least 1")])
def test_a_wrong_argument_is_refused(arguments, what):
    with pytest.raises(InputError, match=what):
        AnnotationCost(**arguments)
