from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.screening import Mode, OperatingPoint, apply_ai, funnel, guide_biopsy

READER = OperatingPoint(5 / 6, 899 / 994)
AI = OperatingPoint(0.8, 0.9)
MODES = get_args(Mode)


def slide():
    return funnel(n=1000, prevalence=6 / 1000, sensitivity=5 / 6, specificity=899 / 994, biopsy_given_recall=20 / 100)


def test_the_lecture_table_of_a_thousand_women() -> None:
    found = slide()
    counts = found.true_positive, found.false_positive, found.false_negative, found.true_negative
    assert counts == pytest.approx((5, 95, 1, 899))
    assert (found.screened, found.recalled, found.biopsied) == pytest.approx((1000, 100, 20))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sensitivity", 0.8333),
        ("specificity", 0.904427),
        ("ppv1", 0.05),
        ("ppv3", 0.25),
        ("npv", 0.998889),
        ("detected_per_thousand", 5),
        ("recall_rate", 0.1),
        ("prevalence", 0.006),
        ("missed_per_thousand", 1),
        ("positive_likelihood_ratio", 8.7193),
        ("negative_likelihood_ratio", 0.18428),
        ("accuracy", 0.904),
        ("f1", 0.0943),
    ],
)
def test_rates_of_the_lecture_table(name: str, expected: float) -> None:
    assert getattr(slide(), name) == pytest.approx(expected, rel=5e-4)


def test_rates_per_thousand_of_two_thousand_screened() -> None:
    found = funnel(n=2000, prevalence=15 / 2000, sensitivity=12 / 15, specificity=0.9)
    assert (found.detected_per_thousand, found.missed_per_thousand) == pytest.approx((6, 1.5))


def test_recalling_nobody_is_more_accurate() -> None:
    assert funnel(1000, 0.006, 0, 1).accuracy == pytest.approx(0.994)


def test_intervals_are_those_of_wilson() -> None:
    assert slide().intervals()["sensitivity"] == pytest.approx((0.436, 0.970), abs=5e-4)


def test_prevalence_moves_ppv_by_bayes_and_nothing_else() -> None:
    for prevalence in (0.001, 0.006, 0.05, 0.3):
        found = funnel(1000, prevalence, 5 / 6, 899 / 994)
        assert found.sensitivity == pytest.approx(5 / 6)
        assert found.specificity == pytest.approx(899 / 994)
        bayes = prevalence * 5 / 6 / (prevalence * 5 / 6 + (1 - prevalence) * 95 / 994)
        assert found.ppv1 == pytest.approx(bayes)


def test_independent_second_reader() -> None:
    found = apply_ai(READER, AI, "second_reader_or")
    assert found.sensitivity == pytest.approx(0.9667, abs=5e-5)
    assert found.specificity == pytest.approx(0.904427 * 0.9, abs=5e-7)


@pytest.mark.parametrize("dependence", [0.0, 0.4, 1.0])
def test_or_and_and_bound_every_other_mode(dependence: float) -> None:
    either, both = (apply_ai(READER, AI, f"second_reader_{k}", dependence) for k in ("or", "and"))
    for mode in MODES:
        found = apply_ai(READER, AI, mode, dependence)
        assert both.sensitivity - 1e-12 <= found.sensitivity <= either.sensitivity + 1e-12
        assert either.specificity - 1e-12 <= found.specificity <= both.specificity + 1e-12
    assert max(READER.sensitivity, AI.sensitivity) <= either.sensitivity + 1e-12
    assert both.sensitivity <= min(READER.sensitivity, AI.sensitivity) + 1e-12


def test_fully_dependent_errors_leave_only_the_better_or_worse_of_both() -> None:
    either, both = (apply_ai(READER, AI, f"second_reader_{k}", dependence=1) for k in ("or", "and"))
    assert either.sensitivity == pytest.approx(max(READER.sensitivity, AI.sensitivity))
    assert both.sensitivity == pytest.approx(min(READER.sensitivity, AI.sensitivity))


def test_modes_equal_a_simulation_of_independent_readers() -> None:
    random = np.random.default_rng(0)
    n = 400_000
    cancer = random.random(n) < 0.3
    calls = [
        random.random(n) < np.where(cancer, point.sensitivity, 1 - point.specificity) for point in (READER, AI, READER)
    ]
    reader, ai, arbiter = calls
    simulated = {
        "replace": (ai, np.zeros(n)),
        "triage": (reader & ai, ai),
        "second_reader_or": (reader | ai, np.ones(n)),
        "second_reader_and": (reader & ai, np.ones(n)),
        "recall_arbitration": (np.where(reader == ai, reader, arbiter), 1 + (reader != ai)),
    }
    for mode in MODES:
        found = apply_ai(READER, AI, mode)
        recalled, reads = simulated[mode]
        assert found.sensitivity == pytest.approx(recalled[cancer].mean(), abs=5e-3)
        assert found.specificity == pytest.approx((~recalled[~cancer]).mean(), abs=5e-3)
        assert found.reads_per_person(0.3) == pytest.approx(reads.mean(), abs=5e-3)


def test_triage_saves_the_reads_of_those_it_dismisses() -> None:
    assert apply_ai(READER, AI, "triage").reads_per_person(0.006) == pytest.approx(0.006 * 0.8 + 0.994 * 0.1)
    assert apply_ai(READER, OperatingPoint(1, 0), "triage") == OperatingPoint(5 / 6, READER.specificity)


@pytest.mark.parametrize("mode", MODES)
def test_a_more_sensitive_threshold_never_finds_fewer(mode) -> None:
    thresholds = [OperatingPoint(s, 1 - s**2) for s in np.linspace(0, 1, 11)]
    found = [apply_ai(READER, point, mode) for point in thresholds]
    assert np.all(np.diff([f.sensitivity for f in found]) >= -1e-12)
    assert np.all(np.diff([f.specificity for f in found]) <= 1e-12)


def test_guided_biopsy_spares_benign_biopsies_and_recalls_the_same() -> None:
    guided = guide_biopsy(slide(), OperatingPoint(0.8, 0.6))
    assert guided.biopsied_with_cancer == pytest.approx(4)
    assert guided.biopsied == pytest.approx(4 + 6)
    assert guided.ppv3 == pytest.approx(0.4)
    assert guided.recalled == slide().recalled


def test_net_benefit() -> None:
    found = slide()
    assert found.net_benefit(0) == pytest.approx(0.005)
    assert found.net_benefit(0.05) == pytest.approx(0.005 - 0.095 * 0.05 / 0.95)
    everybody = funnel(1000, 0.006, 1, 0)
    assert everybody.net_benefit(0.006) == pytest.approx(0)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="prevalence"):
        funnel(1000, 6, 0.8, 0.9)
    with pytest.raises(InputError, match="biopsies"):
        funnel(1000, 0.5, 1, 1, biopsy_given_recall=0.5)
    with pytest.raises(InputError, match=r"triage.*'double'"):
        apply_ai(READER, AI, "double")
    with pytest.raises(InputError, match="dependence"):
        apply_ai(READER, AI, "triage", dependence=2)
    with pytest.raises(InputError, match="threshold"):
        slide().net_benefit(1)
