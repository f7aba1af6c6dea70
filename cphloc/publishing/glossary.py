"""What each metric says, for readers of a card who do not know it by name."""

from __future__ import annotations

from collections.abc import Iterable

_MEANINGS = {
    "dice": "overlap of found and expert mask, 1 is perfect; mean over classes and cases",
    "iou": "shared over joint volume of the masks (area in 2-D), 1 is perfect",
    "hd95_mm": "95th percentile of the distances between the surfaces, in mm; smaller is better",
    "asd_mm": "mean distance between the surfaces, in mm; smaller is better",
    "nsd": "share of the surfaces that lie within 1 mm of each other",
    "lesion_f1": "F1 of whole lesions; one counts as found where any voxel overlaps",
    "lesion_pq": "panoptic quality of whole lesions: their F1 times the mean IoU of those that were found",
    "volume_error": "found minus expert volume as a share of it (area in 2-D); signed, 0 is best",
    "volume_error_ml": "found minus expert volume, in mL; signed, 0 is best",
    "case_ap50": "average precision of each image by itself, at an IoU of 0.5",
    "case_recall50": "share of an image's objects that are found at an IoU of 0.5",
    "map": "COCO mean average precision, over IoUs from 0.50 to 0.95",
    "ap50": "average precision where a box hits from an IoU of 0.5 on; mean over classes",
    "ap10": "average precision where a box hits from an IoU of 0.1 on, usual in 3-D",
    "recall50": "share of all objects that are found at an IoU of 0.5",
    "froc": "mean sensitivity at 1/8 to 8 false positives an image; a box hits from an IoU of 0.1 on",
    "image_auc": "probability that the best box of an image with an object scores higher than that of one without",
    "auc": "probability that a positive image scores higher than a negative one; 0.5 is chance",
    "sensitivity_at_90": "sensitivity at a specificity of 90 %",
    "ece": "expected calibration error: how far stated probabilities are from observed frequencies; smaller is better",
    "brier": "mean squared error of the probabilities; smaller is better",
    "attention_mass": "share of the attention that lies in the expert's region",
    "attention_enrichment": "attention in the region over what uniform attention puts there; 1 is chance",
    "pointing": "share of images whose attention is greatest inside the region",
    "pointing_near": "the same within 10 mm of the region (15 pixels where no physical size is known)",
    "slice_hit": "share of volumes whose slice of most attention holds a part of the region",
    "lesion_recall": "share of an image's lesions that hold at least a tenth of the attention",
    "side_accuracy": "share of images whose attention lies mostly in the half that holds the region",
    "attention_entropy": "how spread the attention is; 0 is a single point, neither way is better",
}


def explained(metrics: Iterable[str]) -> dict[str, str]:
    """The meaning of every metric that is known.

    >>> explained(["auc", "unheard_of"])
    {'auc': 'probability that a positive image scores higher than a negative one; 0.5 is chance'}
    """
    return {name: _MEANINGS[name] for name in metrics if name in _MEANINGS}
