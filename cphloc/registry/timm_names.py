"""Names of the models of timm, from a shipped list, since importing timm takes seconds.

``registry/timm_models.txt.gz`` is ``timm.list_models()``; after a new timm,
``python -m cphloc.registry.timm_names`` writes it anew.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

from cphloc import paths


@functools.cache
def timm_names() -> tuple[str, ...]:
    """Return every model name of timm, without the tags of pretrained weights.

    >>> "resnet18" in timm_names()
    True
    """
    return tuple(gzip.decompress(_file().read_bytes()).decode().split())


def _file() -> Path:
    return paths.shipped("registry") / "timm_models.txt.gz"


def _write() -> None:
    import timm

    text = "\n".join(timm.list_models()) + "\n"
    _file().write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    _write()
