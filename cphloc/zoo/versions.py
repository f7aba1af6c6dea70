"""Parse an entry's name with a range of versions: ``name@1.2.0``, ``name@1``, ``name@^1.2``, ``name@>=1,<2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from cphloc.errors import InputError
from cphloc.zoo.names import NAME_PATTERN


class VersionSpec(NamedTuple):
    """An entry's name and a range of versions; ``asked`` is the range as it was written."""

    name: str
    versions: SpecifierSet
    asked: str

    def newest(self, candidates: Iterable[str]) -> list[str]:
        """Return the candidates within the range, newest first; pre-releases only where there are no others.

        >>> parse_spec("unet3d-ct@^1").newest(["1.9.0", "1.10.0", "2.0.0", "1.11.0rc1"])
        ['1.10.0', '1.9.0']
        """
        return sorted(self.versions.filter(candidates), key=Version, reverse=True)


def parse_spec(spec: str) -> VersionSpec:
    """Parse ``name`` or ``name@range``.

    ``1.2.0`` is that version; ``1`` and ``1.2`` are any version that begins so; ``^1.2`` is compatible by semantic
    versioning (at least 1.2, below the next change of the first non-zero number); ``~1.2`` is at least 1.2, below 1.3;
    anything else is a PEP 440 range such as ``>=1,<2``.

    Raises:
        InputError: the name or the range cannot be read.

    >>> str(parse_spec("unet3d-ct@^0.2").versions)
    '<0.3,>=0.2'
    """
    name, _, asked = spec.partition("@")
    if not re.fullmatch(NAME_PATTERN, name):
        msg = f"'{spec}' is not an entry: write lower-case letters, digits, '-', '_' and '.', then optionally '@1.2.0'"
        raise InputError(msg)
    return VersionSpec(name, parse_range(asked, spec), asked.strip())


def parse_range(asked: str, spec: str) -> SpecifierSet:
    """Parse a range of versions as `parse_spec` describes; ``spec`` is the whole text, for messages.

    Raises:
        InputError: the range cannot be read.
    """
    try:
        return _range(asked.strip())
    except (InvalidVersion, InvalidSpecifier):
        msg = f"'{asked}' in '{spec}' is not a range of versions; write 1.2.0, 1.2, ^1, ~1.2 or >=1,<2"
        raise InputError(msg) from None


def _range(asked: str) -> SpecifierSet:
    if asked in ("", "latest"):
        return SpecifierSet()
    if asked[0] in "^~" and asked[1:2] != "=":
        low = Version(asked[1:])
        return SpecifierSet(f">={low},<{_above(low.release, caret=asked[0] == '^')}")
    if not asked[0].isdigit():
        return SpecifierSet(asked)
    exact = Version(asked)
    return SpecifierSet(f"=={exact}" if len(exact.release) >= 3 else f"=={exact}.*")


def _above(release: tuple[int, ...], caret: bool) -> str:
    """Return the lowest version above a caret or tilde range."""
    if caret:
        last = next((i for i, number in enumerate(release) if number), len(release) - 1)
    else:
        last = min(1, len(release) - 1)
    return ".".join(map(str, (*release[:last], release[last] + 1)))
