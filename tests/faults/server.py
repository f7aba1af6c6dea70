"""Run jobs in children of this process, which has imported everything, so that a child takes a part of a second."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.faulty_io import Faults, Point, install


@dataclass
class Done:
    """How a child ended.

    Args:
        how: ``returned``, ``error`` (of cphloc, one line), ``crash`` (any other exception) or ``killed``.
        value: what the job returned; the message of an error, the traceback of a crash.
        log: everything that it printed.
        points: the file operations, in order.
        hit: whether the fault came.
    """

    how: str
    value: Any = None
    log: str = ""
    points: list[Point] = field(default_factory=list)
    hit: bool = False


def draw_quickly() -> None:
    """Draw every figure as one small picture: most of the time of a job would go into what no fault depends on."""
    from matplotlib.figure import Figure
    from PIL import Image

    from cphloc.data.io import overlay
    from cphloc.evaluation import pictures

    def save(figure: Figure, path: Path, **options: Any) -> None:
        if Path(path).suffix == ".svg":
            Path(path).write_text("<svg/>\n")
        else:
            Image.new("RGB", (16, 16)).save(path)

    Figure.savefig = save  # type: ignore[method-assign]
    overlay.overlay = pictures.overlay = lambda *args: Figure()  # type: ignore[assignment]


class Server:
    """Working folders of jobs, and the children that run them.

    Args:
        base: empty folder.
    """

    def __init__(self, base: Path) -> None:
        self.work, self.templates = base / "work", base / "templates"
        self._answer, self._log = base / "answer.json", base / "log.txt"
        self.cache = base / "cache"
        for folder in (self.templates, self.cache):
            folder.mkdir(parents=True)

    def start_from(self, template: str | None) -> None:
        """Replace the working folder by a copy of a template; an empty folder for ``None``."""
        shutil.rmtree(self.work, ignore_errors=True)
        if template is None:
            self.work.mkdir()
        else:
            shutil.copytree(self.templates / template, self.work, symlinks=True)

    def keep_as(self, template: str) -> None:
        """Keep a copy of the working folder as a template."""
        shutil.copytree(self.work, self.templates / template, symlinks=True)

    def run(
        self,
        job: Callable[[], Any],
        at: Point | None = None,
        kind: str = "",
        count: bool = False,
        kill_after: float | None = None,
    ) -> Done:
        """Run a job in a child, whose working folder is `work`.

        Args:
            job: returns something that JSON can represent.
            at: the operation that fails.
            kind: how it fails.
            count: whether to return the operations of a job without a fault.
            kill_after: seconds after which it is killed, wherever it is.
        """
        self._answer.unlink(missing_ok=True)
        gc.freeze()  # else a child copies the memory of every object that it counts
        child = os.fork()
        if child == 0:
            self._run(job, Faults(str(self.work), at, kind) if at is not None or count else None)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)  # it is not yet waited for, so the number is its own
        _, status = os.waitpid(child, 0)
        log = self._log.read_text(errors="replace")
        if os.WIFSIGNALED(status):
            return Done("killed", os.WTERMSIG(status), log, hit=True)
        found = json.loads(self._answer.read_text())
        points = [Point(*point) for point in found.pop("points")]
        return Done(**found, log=log, points=points)

    def _run(self, job: Callable[[], Any], faults: Faults | None) -> None:
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(self.work)
        tempfile.tempdir = None
        logging.basicConfig(format="%(message)s", force=True)
        real_open = open
        from cphloc.errors import CphlocError

        if faults is not None:
            install(faults)
        try:
            how, value = "returned", job()
        except CphlocError as error:
            how, value = "error", str(error)
        except BaseException:
            how, value = "crash", traceback.format_exc()
        points = [[p.operation, p.file, p.count] for p in faults.order] if faults else []
        answer = {"how": how, "value": value, "points": points, "hit": bool(faults and faults.hit)}
        with real_open(self._answer, "w") as file:
            json.dump(answer, file, default=str)
        sys.stdout.flush()
        os._exit(0)

    def warm_up(self, job: Callable[[], Any]) -> Done:
        """Run a job, and import here every module that its child had imported."""

        def listed() -> Any:
            job()
            return sorted(sys.modules)

        done = self.run(listed)
        if done.how == "returned":
            for name in done.value:
                if name not in sys.modules and not name.startswith(("_", "torch._dynamo", "torch._inductor")):
                    try:
                        importlib.import_module(name)
                    except Exception:  # modules that exist only under another name
                        continue
        return done
