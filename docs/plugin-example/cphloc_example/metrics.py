"""A metric of single cases."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cphloc.evaluation.prediction import CasePrediction
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.geometry import Geometry


class AreaError:
    """Absolute difference of the predicted and the annotated foreground, as a share of the annotated."""

    def __call__(
        self, prediction: CasePrediction, truth: Annotation, geometry: Geometry, classes: Mapping[int, str]
    ) -> float:
        """Score one case; NaN where there is no mask or no foreground to compare with."""
        if prediction.mask is None or truth.mask is None:
            return math.nan
        known = truth.mask != IGNORE
        wanted = int((truth.mask[known] > 0).sum())
        return abs(int((prediction.mask[known] > 0).sum()) - wanted) / wanted if wanted else math.nan
