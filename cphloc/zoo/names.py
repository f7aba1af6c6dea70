"""What an entry and its files are called, known without pydantic, so that a zoo lists at once."""

from __future__ import annotations

import hashlib

ENTRY_FILE = "entry.yaml"
RECIPE_FILE = "recipe.yaml"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.md"

NAME_PATTERN = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"


def sha256_of(content: bytes) -> str:
    """Hash as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()
