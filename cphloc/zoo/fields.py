"""Types of the fields of ``entry.yaml``, each with the check of its value."""

from __future__ import annotations

import math
import re
from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cphloc.zoo.names import MAX_RANGE, NAME_PATTERN, VERSION_PATTERN

_SECRET = re.compile(
    r"://[^/?#]*@|[?&][^=&]*(?:token|sig|secret|passw|pwd|credential|auth|api-?_?key|access-?_?key)[^=&]*=",
    re.IGNORECASE,
)


def _version(text: str) -> str:
    try:
        plain = len(Version(text).release) == 3 and str(Version(text)) == text
    except InvalidVersion:
        plain = False
    if not plain:
        msg = f"'{text}' is not a version; write it as 1.2.0 or 1.2.0rc1"
        raise ValueError(msg)
    return text


def _specifiers(text: str) -> str:
    try:
        if len(text) > MAX_RANGE:
            raise InvalidSpecifier
        SpecifierSet(text).contains("1.0.0")
    except ValueError:  # InvalidSpecifier is one, and so is a number of too many digits
        msg = f"'{text[:MAX_RANGE]}' is not a range of versions; write it as >=0.1,<2"
        raise ValueError(msg) from None
    return text


def _inside(path: str) -> str:
    """Refuse paths that lead out of the entry's folder; entries may come from other people's zoos."""
    outside = path.startswith("/") or "\\" in path or ":" in path or not all(p.strip(".") for p in path.split("/"))
    if outside or not path.isprintable() or len(path) > 200:
        msg = f"'{path[:100]}' must be a path inside the entry's folder"
        raise ValueError(msg)
    return path


def _address(url: str) -> str:
    """Refuse addresses with a secret, which an entry would publish, and chains of protocols, which fsspec follows."""
    if _SECRET.search(url):
        msg = "holds a password or token, which everyone could read; give an address that needs none"
        raise ValueError(msg)
    if not url.isprintable() or "::" in url:
        msg = "is not the address of one file; write https://host/path"
        raise ValueError(msg)
    return url


def _finite(value: float) -> float:
    if not math.isfinite(value):
        msg = f"{value} is not a finite number"
        raise ValueError(msg)
    return value


Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$", max_length=100)]
ExactVersion = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}@{VERSION_PATTERN}$", max_length=200)]
"""A version of an entry, such as ``unet3d-ct@0.1.0``."""
VersionText = Annotated[str, AfterValidator(_version)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
InsidePath = Annotated[Text, AfterValidator(_inside)]
Finite = Annotated[float, AfterValidator(_finite)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Url = Annotated[str, Field(pattern=r"^(https?|s3|hf)://\S+$", max_length=2000), AfterValidator(_address)]
Urls = Annotated[list[Url], Field(max_length=10)]
VersionRange = Annotated[str, AfterValidator(_specifiers)]


class Strict(BaseModel):
    """A block of ``entry.yaml``: immutable, without other keys, and of exactly the stated types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
