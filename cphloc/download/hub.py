"""The address of the Hugging Face Hub, and the user's token for it."""

from __future__ import annotations

import os


def hub() -> str:
    """Return the address of the Hub: ``HF_ENDPOINT``, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_token(url: str) -> str:
    """Return the token of ``HF_TOKEN`` or ``hf auth login`` for an address on the Hub; empty for any other address."""
    if not url.startswith(f"{hub()}/"):
        return ""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    try:
        from huggingface_hub import get_token
    except ImportError:
        return ""
    return get_token() or ""
