"""Names of entries and of their files; kept apart from the pydantic models so that listing a zoo stays fast."""

from __future__ import annotations

import hashlib
import re

from cphloc.errors import MAX_NAME, InputError
from cphloc.paths import portable

ENTRY_FILE = "entry.yaml"
INDEX_FILE = "zoo.json"
"""Index of a zoo, see `cphloc.zoo.index`."""
RECIPE_FILE = "recipe.yaml"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.md"
SIGNATURE_FILE = "signature.json"
"""Signature of every other file, see `cphloc.zoo.signature`; not every entry has one."""
SBOM_FILE = "sbom.cdx.json"
"""Software bill of materials in CycloneDX."""
UNPINNED = {ENTRY_FILE, SIGNATURE_FILE}
"""Files that ``entry.yaml`` cannot pin: itself, and its signature."""
BASELINE_FILE = "baseline.npz"
"""Averages of the training annotations, with which an evaluation compares the model."""

MAX_ENTRY_BYTES, MAX_ENTRY_VALUES = 8_000_000, 120_000
"""Largest size of ``entry.yaml``, which may list 100,000 test cases."""

MAX_RANGE = 200
"""Longest range of versions, such as ``>=0.2,<1``: each of its parts takes time to compare."""

NAME_PATTERN = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
VERSION_PATTERN = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?"


def check_name(name: str, version: str) -> None:
    """Check the name and version of an entry, which become folders of its zoo.

    Raises:
        InputError: one of them is not valid.
    """
    if len(name) > MAX_NAME or not re.fullmatch(NAME_PATTERN, name):
        msg = f"'{name[:MAX_NAME]}' is not a name; use lower-case letters, digits, '-', '_' and '.', 100 at most"
        raise InputError(msg)
    if portable(name) != name:
        msg = f"'{name}' is the name of a device on Windows, where nobody could install it; use another name"
        raise InputError(msg)
    if len(version) > MAX_NAME or not re.fullmatch(VERSION_PATTERN, version):
        msg = f"'{version[:MAX_NAME]}' is not a version; write it as 1.2.0 or 1.2.0rc1"
        raise InputError(msg)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()
