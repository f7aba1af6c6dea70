"""Preload a faster memory allocator (tcmalloc or jemalloc) for training on a CPU.

Every training step allocates the same large blocks. The system allocator returns them to the operating system after
each step, so that every page has to be mapped again; tcmalloc and jemalloc keep them for reuse. An allocator can only
be chosen through ``LD_PRELOAD`` when a process starts.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path

NAMES = ("tcmalloc_minimal", "tcmalloc", "jemalloc")
"""Names of the allocator libraries to search for, in order of preference."""

VARIABLE = "CPHLOC_ALLOCATOR"
"""Environment variable: set it to ``system`` to keep the system allocator; `choose` sets it to ``preloaded``."""


def choose() -> None:
    """Restart the ``cphloc`` command with a preloaded allocator, where that makes training faster.

    Does nothing unless the system is Linux without a GPU, an allocator of `NAMES` is installed and not loaded yet, and
    `VARIABLE` is not set. Scripts and notebooks that call cphloc are never restarted.
    """
    if os.environ.get(VARIABLE) or not sys.platform.startswith("linux") or not _is_our_program() or _has_gpu():
        return
    library = next(filter(None, map(ctypes.util.find_library, NAMES)), None)
    loaded = Path("/proc/self/maps").read_text(encoding="utf-8")
    if library is None or any(name in loaded for name in NAMES):
        return
    preload = " ".join(filter(None, (os.environ.get("LD_PRELOAD"), library)))
    environment = {**os.environ, "LD_PRELOAD": preload, VARIABLE: "preloaded"}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_our_program() -> bool:
    program = Path(sys.argv[0])
    return program.name == "cphloc" or program.parts[-2:] == ("cphloc", "cli.py")


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()
