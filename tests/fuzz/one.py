"""Fuzz one target with atheris until its time is over: ``python -m tests.fuzz.one NAME SECONDS CORPUS CRASHES``."""

from __future__ import annotations

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


class SlowError(Exception):
    """A file that takes more processor time than allowed."""


def main() -> None:
    """Run; the exit code is 0 unless an input failed, which is then in the folder of crashes."""
    name, seconds, corpus, crashes = sys.argv[1:]
    target = next(target for target in TARGETS if target.name == name)
    scratch = Path(tempfile.mkdtemp(prefix="cphloc-fuzz-"))

    def read(content: bytes) -> None:
        """Read one input in an empty folder."""
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
    used = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) // 1024  # noqa: SIM115
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", "-timeout=60", "-print_final_stats=1"]
    flags += [f"-rss_limit_mb={used + MEGABYTES}", "-max_len=20000", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, corpus, str(SEEDS / name)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
