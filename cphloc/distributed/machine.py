"""What depends on the machine: the memory of this process, instructions of the processor."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
"""Parameters of glibc's ``mallopt``, from its ``malloc.h``."""


def peak_ram_mb() -> float | None:
    """Return the peak memory of this process in MB; ``None`` on Windows, which does not count it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@cache
def reuse_freed_memory() -> bool:
    """Make glibc keep freed blocks for the next allocation instead of returning them to the operating system.

    Every training step and every predicted window allocates the same large blocks. By default glibc maps each of them
    anew, and the system clears its pages: a third of the time of a training step on a CPU. Elsewhere than on Linux with
    glibc, or with another allocator such as tcmalloc preloaded, nothing changes.

    Returns:
        whether glibc accepted the settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28))
    return sum(mallopt(name, value) for name, value in settings) == len(settings)


def cpu_computes_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16 (AVX-512 or AMX); emulated, it is very slow."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
