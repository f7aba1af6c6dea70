"""Names of entries and of their files; kept apart from the pydantic models so that listing a zoo stays fast."""

from __future__ import annotations

import hashlib

ENTRY_FILE = "entry.yaml"
RECIPE_FILE = "recipe.yaml"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.md"

MAX_ENTRY_BYTES = 1_000_000
"""Largest size of ``entry.yaml`` and ``recipe.yaml``."""

NAME_PATTERN = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()
