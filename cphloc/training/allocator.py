"""A better memory allocator for training on a CPU.

Every step asks for the same large blocks again. The system's allocator gives them back in between, and each page has to
be mapped anew; tcmalloc and jemalloc keep them. An allocator can only be chosen when a program starts.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path

NAMES = ("tcmalloc_minimal", "tcmalloc", "jemalloc")
"""Libraries looked for, the best first."""

VARIABLE = "CPHLOC_ALLOCATOR"
"""``system`` leaves the allocator as it is; ``preloaded`` is set once another has been chosen."""


def choose() -> None:
    """Start this command anew with a better allocator, where one is installed, none is chosen, and there is no GPU.

    Only for the ``cphloc`` program: a script or a notebook that trains is never started again.
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
