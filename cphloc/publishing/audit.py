"""Audit an entry or a recipe: name every component, hash every file, and show that it holds no code and agrees."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cphloc.config import jsonio, yamlio
from cphloc.data.io.formats import IMAGE_SUFFIXES
from cphloc.errors import CphlocError, InputError, NotFoundError
from cphloc.files import atomic
from cphloc.publishing.agreement import disagreements
from cphloc.publishing.sbom import bill_of_materials
from cphloc.recipe import recipe as recipes
from cphloc.recipe.initial import other_weights
from cphloc.recipe.merge import find as find_recipe
from cphloc.recipe.merge import shipped_recipes
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.zoo.entries import Listing, NoSuchVersionError
from cphloc.zoo.entry import File
from cphloc.zoo.inside import files_below
from cphloc.zoo.names import RECIPE_FILE, UNPINNED, sha256_of
from cphloc.zoo.resolve import names_an_entry, nearest, resolve_entry
from cphloc.zoo.starting import load_recipe
from cphloc.zoo.stored import stored_recipe

DATA_SUFFIXES = (
    *(".yaml", ".md", ".csv", ".json", ".safetensors", ".npz"),
    *IMAGE_SUFFIXES,
)
"""Suffixes of files that an entry may hold; none of their readers runs code."""

_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Args:
        kind: ``recipe``, ``backbone``, ``loss``, ``file``, ...
        name: of the component or file.
        what: the component's class with its package and version, or the file's SHA-256.
        safe: whether it is a data file as published that agrees with the others, or an installed component that has a
            card.
    """

    kind: str
    name: str
    what: str
    safe: bool


def audit(source: str | Path | Mapping[str, Any]) -> list[Finding]:
    """List every component, package, version and file hash of an entry or a recipe, without importing any of it.

    Args:
        source: an entry (see `cphloc.zoo.resolve.resolve_entry`), or a recipe: a file, a shipped name, a mapping.

    Returns:
        one finding each; the source holds no code when all are ``safe``.

    Raises:
        NotFoundError: there is neither such an entry nor such a recipe.
        RecipeError: the recipe is not valid.
    """
    listing = None if isinstance(source, Mapping) else _entry(source)
    if listing is None:
        recipe = load_recipe(source)
        return [_recipe_line(recipe), *_components(recipe)]
    listing.entry.require_plugins()
    content = listing.read(RECIPE_FILE)
    pinned = sha256_of(content) == listing.entry.files[RECIPE_FILE].sha256
    recipe = recipes.load_stored(yamlio.read(content, f"{listing}/{RECIPE_FILE}").plain)
    downloads = list(other_weights(recipe.to_plain()))
    lines = [Finding("entry", str(listing), f"sha256 {listing.sha256}", True), _recipe_line(recipe, pinned)]
    lines += [Finding("weights", key, "the stored recipe would start from other weights", False) for key in downloads]
    lines += [*_components(recipe), *_files(listing)]
    if all(line.safe for line in lines):
        lines += [Finding("agreement", file, text, False) for file, text in disagreements(listing, recipe)]
    return lines


def write_bill(source: str | Path, out: str | Path) -> None:
    """Write the bill of materials of an entry in CycloneDX, as JSON.

    Args:
        source: the entry.
        out: file to write.

    Raises:
        InputError: ``source`` is a recipe.
    """
    listing = _entry(source)
    if listing is None:
        msg = f"{source}: is a recipe; --sbom is written of an entry, which has files and versions"
        raise InputError(msg)
    bill = bill_of_materials(listing.entry, stored_recipe(listing), listing.content)
    with atomic(out) as temporary:
        temporary.write_text(jsonio.dumps(bill, indent=1) + "\n", encoding="utf-8")


def _entry(source: str | Path) -> Listing | None:
    """Find the entry that ``source`` names; ``None`` where it is a recipe."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return None
    try:
        return resolve_entry(source)
    except NoSuchVersionError:
        raise
    except NotFoundError:
        if path.is_dir() or names_an_entry(source):
            raise
        with suppress(NotFoundError):
            find_recipe(source)
            return None
        hint = nearest(source, shipped_recipes()) or "give a recipe file, or a name from: cphloc list zoo recipes"
        msg = f"no entry or recipe '{source}'; {hint}"
        raise NotFoundError(msg) from None


def _recipe_line(recipe: Recipe, pinned: bool = True) -> Finding:
    text = f"sha256 {recipe.sha256}" if pinned else "differs from the one that the entry pins"
    return Finding("recipe", recipe.name, f"{text}; text, numbers and names of components with a card only", pinned)


def _components(recipe: Recipe) -> Iterator[Finding]:
    """Yield a finding for every block of the recipe, outer before inner."""
    for block in recipe.blocks:
        card = catalogue.card(block.kind, block.node.children["type"].plain)
        if card.import_ is None:
            yield Finding(block.kind, card.name, f"allowed by name in {Path(card.source).name}", True)
            continue
        package = card.import_.partition(".")[0].partition(":")[0]
        version = _version(package)
        yield Finding(
            block.kind, card.name, f"{card.import_}, {package} {version or 'not installed'}", version is not None
        )


def _version(package: str) -> str | None:
    """Return the version of the distribution that provides an import package, which often has another name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        named = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.version(named[0]) if named else None


def _files(listing: Listing) -> Iterator[Finding]:
    entry = listing.entry
    pinned = {**entry.files, entry.weights.file or "weights": entry.weights}
    for file, expected in sorted(pinned.items()):
        try:
            path = listing.weights_path() if expected is entry.weights else listing.path(file)
            same = File.of(path) == File(sha256=expected.sha256, bytes=expected.bytes)
            wrong = "" if same else "differs from the one published; "
            unsafe = _unsafe(path, file, weights=expected is entry.weights)
        except (CphlocError, OSError) as error:
            wrong, unsafe = f"cannot be read ({error}); ", ""
        yield Finding("file", file, f"{wrong}{unsafe}sha256 {expected.sha256}", not (wrong or unsafe))
    if isinstance(listing.place, Path):
        for file in sorted(files_below(listing.place) - {*pinned, *UNPINNED}):
            yield Finding("file", file, "is not part of the entry", False)


def _unsafe(path: Path, file: str, weights: bool) -> str:
    """Return why a file may not be in an entry, or an empty text."""
    if weights:
        return "" if _is_safetensors(path) else "is not a safetensors file; "
    return "" if file.lower().endswith(DATA_SUFFIXES) else "is of a kind that entries do not hold; "


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is a valid safetensors header followed by as many bytes as the header announces."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return False
    return path.stat().st_size == 8 + length + max(ends, default=0)
