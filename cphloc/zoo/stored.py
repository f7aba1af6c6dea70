"""Read files of a listed version, each compared with its published hash; torch is not imported."""

from __future__ import annotations

from pathlib import Path

from cphloc.config import yamlio
from cphloc.errors import DataError
from cphloc.recipe import recipe as recipes
from cphloc.recipe.initial import other_weights
from cphloc.recipe.recipe import Recipe
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import File
from cphloc.zoo.names import MAX_ENTRY_BYTES, RECIPE_FILE, sha256_of

_DAMAGED = "it is damaged or was changed: remove it, then download or publish the entry again"


def stored_recipe(listing: Listing, verify: bool = True) -> Recipe:
    """Read the recipe of a listed version.

    Raises:
        DataError: it is not the one that was published, or names other weights, which could be files of this machine.
    """
    expected = listing.entry.files[RECIPE_FILE]
    if expected.bytes > MAX_ENTRY_BYTES:
        msg = f"{listing}: {RECIPE_FILE} has {expected.bytes:,} bytes, {MAX_ENTRY_BYTES:,} are the most"
        raise DataError(msg)
    content = content_of(listing.path(RECIPE_FILE), expected, f"{listing}: {RECIPE_FILE}", verify)
    recipe = recipes.load_stored(yamlio.read(content, f"{listing}/{RECIPE_FILE}").plain)
    if other := list(other_weights(recipe.to_plain())):
        msg = f"{listing}: {RECIPE_FILE} would start from other weights ({', '.join(other)}); ask for a mended version"
        raise DataError(msg)
    return recipe


def checked_path(listing: Listing, file: str) -> Path:
    """Return the path of one of an entry's files, after its hash was compared.

    Raises:
        NotFoundError: the entry has no such file.
        DataError: it is not the one that was published.
    """
    path = listing.path(file)
    content_of(path, listing.entry.files[file], f"{listing}: {file}")
    return path


def content_of(path: Path, expected: File, what: str, verify: bool = True) -> bytes:
    """Read a file and check its hash in memory, so that the bytes checked are the bytes used.

    Args:
        path: the file.
        expected: its published size and hash.
        what: the entry and file, for messages.
        verify: whether to check size and hash.

    Raises:
        DataError: it cannot be read, or is not the one that was published.
    """
    try:
        if verify and path.stat().st_size != expected.bytes:
            msg = f"{what}: {path} has {path.stat().st_size:,} bytes, {expected.bytes:,} were published; {_DAMAGED}"
            raise DataError(msg)
        content = path.read_bytes()
    except OSError as error:
        msg = f"{what}: {path} cannot be read ({error.strerror}); download or publish the entry again"
        raise DataError(msg) from None
    if verify and sha256_of(content) != expected.sha256:
        msg = (
            f"{what}: {path} has sha256 {sha256_of(content)[:12]}... but {expected.sha256[:12]}... was published; "
            f"{_DAMAGED}"
        )
        raise DataError(msg)
    return content
