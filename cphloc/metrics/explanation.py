"""Names and meanings of the maps that explain a classifier, and of what is measured of them.

>>> list(METHODS)
['attention', 'grad-cam', 'occlusion', 'random weights']
"""

from __future__ import annotations

ATTENTION, GRAD_CAM, OCCLUSION, RANDOM = "attention", "grad-cam", "occlusion", "random weights"
METHODS = {
    ATTENTION: "map of the network",
    GRAD_CAM: "Grad-CAM of the same network, on the features that its attention weights",
    OCCLUSION: "fall of the probability where a window of the image is replaced by its median",
    RANDOM: "map of the same network with random weights",
}
"""Meaning of each method whose maps are compared."""
METRICS = {
    "pointing": "share of cases in which the maximum of the map is in the annotated region",
    "attention_mass": "share of the map inside the annotated region",
    "deletion": "area under the probability while voxels are replaced by the median, those of most attention first; "
    "lower is better",
    "insertion": "area under the probability while voxels are put back, those of most attention first",
}
"""Meaning of each metric of a map."""
SANITY = "similarity_to_random"
"""Rank correlation of the map with that of random weights."""
SANITY_TEXT = "Near 1, the map would not depend on what was learned"
