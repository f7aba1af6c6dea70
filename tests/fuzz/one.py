"""Fuzz one target with atheris until its time is over: ``python -m tests.fuzz.one NAME SECONDS CORPUS CRASHES LAST``.

Before an input is read, it is written to the file LAST, and the number of inputs to ``LAST.count``: whatever ends this
process, also a crash of a decoder or a full memory, `tests.fuzz.__main__` finds the input that did it.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cphloc"]):
    from tests.fuzz.targets import SEEDS, TARGETS

SECONDS = 2.0
MEGABYTES = 500
"""Largest growth of the memory beyond that of the imported libraries."""
MOST_MEGABYTES = 4_000
"""Growth of the address space at which the system refuses more, before the machine runs out of memory."""


class SlowError(Exception):
    """A file that takes more processor time than allowed."""


def main() -> None:
    """Run; the exit code is 0 unless an input failed, which is then in the folder of crashes or in LAST."""
    name, seconds, corpus, crashes, last = sys.argv[1:]
    target = next(target for target in TARGETS if target.name == name)
    scratch = Path(tempfile.mkdtemp(prefix="cphloc-fuzz-", dir=Path(last).parent))
    count = os.open(f"{last}.count", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    inputs = 0

    def read(content: bytes) -> None:
        """Read one input in an empty folder."""
        nonlocal inputs
        inputs += 1
        Path(last).write_bytes(content)
        os.pwrite(count, str(inputs).encode(), 0)
        folder = scratch / "a"
        folder.mkdir()
        started = time.process_time()
        try:
            target(content, folder)
        finally:
            shutil.rmtree(folder)
        if time.process_time() - started > SECONDS:
            msg = f"{time.process_time() - started:.1f} s"
            raise SlowError(msg)

    for seed in target.seeds:  # imports libraries, before time and memory are measured
        (scratch / "a").mkdir()
        target(seed, scratch / "a")
        shutil.rmtree(scratch / "a")
    used = _megabytes("VmRSS")
    most = (_megabytes("VmSize") + MOST_MEGABYTES) << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", "-timeout=60"]
    flags += [f"-rss_limit_mb={used + MEGABYTES}", "-max_len=20000", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, corpus, str(SEEDS / name)], read)
    atheris.Fuzz()


def _megabytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) // 1024


if __name__ == "__main__":
    main()
