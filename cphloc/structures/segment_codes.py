"""Codes of SNOMED CT for the classes of a mask, as DICOM SEG and its viewers name them.

A code is written ``SCHEME:VALUE:MEANING``, such as ``SCT:10200004:Liver``. A category may stand before it, separated by
``/``, and modifiers after it, by ``+``: ``SCT:49755003:Morphologically Abnormal Structure / SCT:4147007:Mass``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cphloc.errors import InputError

Triple = tuple[str, str, str]
"""Coding scheme, value and meaning of a code."""


@dataclass(frozen=True)
class SegmentCode:
    """Codes of one segment.

    Args:
        category: such as anatomical structure (DICOM CID 7150).
        type: what it is, such as liver (CID 7151).
        modifiers: of the type, such as left (CID 244).
    """

    category: Triple
    type: Triple
    modifiers: tuple[Triple, ...] = ()


_ANATOMY = ("SCT", "91723000", "Anatomical Structure")
_ABNORMAL = ("SCT", "49755003", "Morphologically Abnormal Structure")
_LEFT, _RIGHT = ("SCT", "7771000", "Left"), ("SCT", "24028007", "Right")

_FINDINGS = {
    "tumour": "SCT:108369006:Neoplasm",
    "meningioma": "SCT:108369006:Neoplasm + SCT:1231004:Meninges",
    "glioma": "SCT:108369006:Neoplasm + SCT:12738006:Brain",
    "brain_t1c/pituitary": "SCT:108369006:Neoplasm + SCT:56329008:Pituitary",
    "lesion": "SCT:52988006:Lesion",
    "benign": "SCT:52988006:Lesion + SCT:30807003:Benign",
    "malignant": "SCT:52988006:Lesion + SCT:21594007:Malignant",
    "mass": "SCT:4147007:Mass",
    "nodule": "SCT:27925004:Nodule",
    "cyst": "SCT:367643001:Cyst",
    "edema": "SCT:79654002:Edema",
    "necrosis": "SCT:6574001:Necrosis",
    "hemorrhage": "SCT:50960005:Hemorrhage",
    "hematoma": "SCT:35566002:Hematoma",
}
_STRUCTURES = {
    "hippocampus/anterior": "SCT:5366008:Hippocampus + SCT:255549009:Anterior",
    "hippocampus/posterior": "SCT:5366008:Hippocampus + SCT:255551008:Posterior",
    "hippocampus": "SCT:5366008:Hippocampus",
    "adrenal gland": "SCT:23451007:Adrenal gland",
    "aorta": "SCT:15825003:Aorta",
    "bladder": "SCT:89837001:Bladder",
    "bone": "SCT:272673000:Bone",
    "brain": "SCT:12738006:Brain",
    "brainstem": "SCT:119238007:Brain Stem",
    "breast": "SCT:76752008:Breast",
    "colon": "SCT:71854001:Colon",
    "duodenum": "SCT:38848004:Duodenum",
    "esophagus": "SCT:32849002:Esophagus",
    "femur": "SCT:71341001:Femur",
    "gallbladder": "SCT:28231008:Gallbladder",
    "heart": "SCT:80891009:Heart",
    "kidney": "SCT:64033007:Kidney",
    "larynx": "SCT:4596009:Larynx",
    "liver": "SCT:10200004:Liver",
    "lung": "SCT:39607008:Lung",
    "lymph node": "SCT:59441001:Lymph Node",
    "mandible": "SCT:91609006:Mandible",
    "pancreas": "SCT:15776009:Pancreas",
    **dict.fromkeys(("parotid", "parotid gland"), "SCT:45289007:Parotid gland"),
    "prostate": "SCT:41216001:Prostate",
    "spinal cord": "SCT:2748008:Spinal cord",
    "spleen": "SCT:78961009:Spleen",
    "stomach": "SCT:69695003:Stomach",
    "trachea": "SCT:44567001:Trachea",
    "uterus": "SCT:35039007:Uterus",
    "vertebra": "SCT:51282000:Vertebra",
}
CODES = {
    **{name: f"{':'.join(_ABNORMAL)} / {code}" for name, code in _FINDINGS.items()},
    **{name: f"{':'.join(_ANATOMY)} / {code}" for name, code in _STRUCTURES.items()},
}
"""Class name, or ``data set/class name``, in lower case without its side -> its code."""
_SPELLINGS = {"tumor": "tumour", "oedema": "edema", "haemorrhage": "hemorrhage", "oesophagus": "esophagus"}


def parse_code(text: str) -> SegmentCode:
    """Parse a code.

    Raises:
        InputError: it is not of the form that the module describes.

    >>> parse_code("SCT:64033007:Kidney + SCT:7771000:Left").modifiers
    (('SCT', '7771000', 'Left'),)
    """
    category, _, rest = text.rpartition("/")
    kind, *modifiers = rest.split("+")
    return SegmentCode(
        _triple(category, text) if category.strip() else _ANATOMY,
        _triple(kind, text),
        tuple(_triple(modifier, text) for modifier in modifiers),
    )


def code_of(name: str, stated: Mapping[str, str], dataset: str = "") -> SegmentCode | None:
    """Return the code of a class: as stated, else from `CODES`; ``None`` for a class without a code.

    Args:
        name: name of the class; ``left`` and ``right`` in it become a modifier.
        stated: class name -> code, of the recipe.
        dataset: name of the data set's card.
    """
    if name in stated:
        return parse_code(stated[name])
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    sides = [side for word, side in (("left", _LEFT), ("right", _RIGHT)) if word in words]
    plain = " ".join(_SPELLINGS.get(word, word) for word in words if word not in ("left", "right"))
    text = CODES.get(f"{dataset}/{plain}") or CODES.get(plain) or CODES.get(plain.removesuffix("s"))
    if text is None or len(sides) > 1:
        return None
    code = parse_code(text)
    return SegmentCode(code.category, code.type, (*code.modifiers, *sides))


def _triple(text: str, whole: str) -> Triple:
    parts = tuple(part.strip() for part in text.split(":"))
    if len(parts) != 3 or not all(parts) or len(parts[0]) > 16 or len(parts[1]) > 16 or len(parts[2]) > 64:
        msg = f"code '{whole[:100]}' is not SCHEME:VALUE:MEANING, such as SCT:10200004:Liver; correct it"
        raise InputError(msg)
    return parts[0], parts[1], parts[2]
