"""Remember the hash of every version that was read from a URL, so that a version that changed there is refused."""

from __future__ import annotations

from cphloc import paths
from cphloc.errors import DataError
from cphloc.files import atomic
from cphloc.zoo.names import sha256_of


def check_unchanged(version: str, url: str, sha256: str) -> None:
    """Refuse a version at a URL whose ``entry.yaml`` is not the one that was read first; the first is remembered.

    Args:
        version: ``name@1.2.0``, for messages.
        url: folder of the version.
        sha256: of its ``entry.yaml``, as the zoo's index states now.

    Raises:
        DataError: the version changed.
    """
    pin = paths.cached("zoo", "pins", sha256_of(url.encode()))
    known = pin.read_text(encoding="utf-8") if pin.is_file() else ""
    if known not in ("", sha256):
        msg = (
            f"{url}: {version} changed on the server (entry.yaml was {known[:12]}..., is {sha256[:12]}...), but "
            f"versions are immutable; ask its publisher for a new version, or remove {pin} to accept this one"
        )
        raise DataError(msg)
    if not known:
        with atomic(pin) as temporary:
            temporary.write_text(sha256, encoding="utf-8")
