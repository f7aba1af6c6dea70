"""What depends on the machine and its operating system: compiled loops, and the memory of this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cphloc import paths


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function with numba and keeps the result on disk.

    The result is kept beside the source file. Where that folder and the home folder are read-only, as in a container,
    it is kept in the cache of cphloc; where nothing can be kept, every process compiles the function again.

    Args:
        options: further arguments of `numba.njit`.

    >>> @compiled()
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    from numba import config, njit

    def _compile(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder that it can write
            config.CACHE_DIR = config.CACHE_DIR or str(paths.writable_cache() / "numba")
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return _compile


def peak_ram_mb() -> float | None:
    """Return the peak memory of this process in MB; ``None`` on Windows, which does not count it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
