from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from cphloc.errors import InputError
from cphloc.metrics.calibration import RANGE, fitted_temperature, tempered
from cphloc.metrics.classification import auc, expected_calibration_error


def overconfident(temperature, cases=4000, seed=0):
    """Probabilities whose logits are ``temperature`` times those that the labels were drawn with."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (cases, 1))
    labels = (rng.random((cases, 1)) < expit(logits)).astype(float)
    return expit(temperature * logits), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_probabilities_is_found(temperature):
    stated, labels = overconfident(temperature)
    assert fitted_temperature(stated, labels) == pytest.approx(temperature, rel=0.1)


def test_fitted_on_some_cases_it_calibrates_others_and_leaves_their_order():
    found = fitted_temperature(*overconfident(4.0, seed=1))
    stated, labels = overconfident(4.0, seed=2)
    after = tempered(stated, found)
    before, now = (expected_calibration_error(p.ravel(), labels.ravel()) for p in (stated, after))
    assert before > 0.08 > 0.03 > now
    assert auc(after.ravel(), labels.ravel()) == pytest.approx(auc(stated.ravel(), labels.ravel()), abs=1e-6)


def test_tempering_divides_logits_and_can_be_undone():
    stated = np.array([0.01, 0.4, 0.5, 0.97])
    np.testing.assert_allclose(tempered(stated, 2.5), expit(logit(stated) / 2.5))
    np.testing.assert_allclose(tempered(tempered(stated, 2.5), 1 / 2.5), stated)


def test_certainty_stays_finite_and_unknown_labels_do_not_count():
    assert np.isfinite(tempered(np.array([0.0, 1.0]), 0.1)).all()
    stated, labels = overconfident(2.0, cases=500)
    more = np.vstack([stated, np.full((500, 1), 0.9)]), np.vstack([labels, np.full((500, 1), np.nan)])
    assert fitted_temperature(*more) == fitted_temperature(stated, labels)


def test_labels_that_are_all_the_same_say_nothing():
    assert fitted_temperature(np.full((5, 1), 0.9), np.ones((5, 1))) == 1.0
    assert RANGE[0] < fitted_temperature(np.array([[0.9], [0.1]]), np.array([[1.0], [0.0]])) < RANGE[1]
    with pytest.raises(InputError, match="positive"):
        tempered(np.array([0.5]), 0.0)
