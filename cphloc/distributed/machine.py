"""What depends on the operating system: the memory of this process."""

from __future__ import annotations

import sys


def peak_ram_mb() -> float | None:
    """Return the peak memory of this process in MB; ``None`` on Windows, which does not count it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
