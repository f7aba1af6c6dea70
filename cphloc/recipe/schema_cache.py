"""The JSON Schema of recipes, kept in the cache until a file changes that it is made from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from cphloc import paths
from cphloc.config import jsonio
from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.registry import catalogue

_PACKAGE = re.compile(rb"^import: *(\w+)", re.MULTILINE)
"""The top-level package of a component, on its card."""


def cached_schema() -> dict[str, Any]:
    """Return `cphloc.recipe.schema.recipe_schema`, made only if no earlier call had the same sources.

    The sources are the cards of every registry folder, the Python files of every package that they name, and the
    version of pydantic; they are compared by their contents.
    """
    file = paths.cached("schemas", f"{_digest()}.json")
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):  # not there, or damaged
        pass
    from cphloc.recipe.schema import recipe_schema

    schema = recipe_schema()
    try:
        with atomic(file) as temporary:
            temporary.write_text(jsonio.dumps(schema), encoding="utf-8")
    except (OSError, CphlocError):  # a full or read-only disk: the next call makes it again
        pass
    return schema


def _digest() -> str:
    """SHA-256 of the contents of all sources."""
    digest, packages = hashlib.sha256(metadata.version("pydantic").encode()), {b"cphloc"}
    for folder in catalogue.folders():
        for content in _contents(os.fspath(folder), ".yaml"):
            digest.update(b"\0" + content)
            packages |= set(_PACKAGE.findall(content))
    for package in sorted(packages):
        spec = importlib.util.find_spec(package.decode())
        for place in (spec.submodule_search_locations if spec else None) or ():
            for content in _contents(place, ".py"):
                digest.update(b"\0" + content)
    return digest.hexdigest()


def _contents(folder: str, extension: str) -> Iterator[bytes]:
    """Path and content of every file below a folder with an extension."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith(extension):
                path = os.path.join(place, name)
                yield path.encode()
                with open(path, "rb") as file:
                    yield file.read()
