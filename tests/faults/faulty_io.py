"""Count the file operations of this process below a folder, and let one of them fail or end the process.

Python's own files are wrapped; writers in C and Rust (safetensors, ITK) are wrapped as one write each.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "create": ("EIO",),
    "write": ("full", "torn"),
    "sync": ("EIO",),
    "rename": ("EIO", "kill before", "kill after"),
    "unlink": ("EIO", "kill before"),
    "mkdir": ("full",),
}
"""The faults of each operation. ``full`` writes half of the bytes, as a full disk does; ``torn`` also kills."""

_ERRORS = {"EIO": errno.EIO, "full": errno.ENOSPC}
_VARYING = (
    (re.compile(r"\.cphloc-[0-9a-f]{8}-\d+-[0-9a-f]{6}\."), "~"),
    (re.compile(r"\d{8}-\d{6}-\d{6}"), "RUN"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{16,64}(?![0-9a-f])"), "HASH"),
    (re.compile(r"(?<=/)[0-9a-f]{8}-(?=\d+\.json)"), ""),
)


@dataclass(frozen=True)
class Point:
    """The n-th time that an operation is done on a file; names that vary between two runs are written in capitals."""

    operation: str
    file: str
    count: int


@dataclass
class Faults:
    """What was done, and the fault to come.

    Args:
        root: the folder below which operations count.
        at: where to fail; ``None`` to count only.
        kind: how to fail, see `KINDS`.
    """

    root: str
    at: Point | None = None
    kind: str = ""
    seen: Counter = field(default_factory=Counter)
    order: list[Point] = field(default_factory=list)
    hit: bool = False

    def path(self, file: Any) -> str | None:
        """The path below the root, normalized; ``None`` for other files."""
        if isinstance(file, int):
            try:
                file = os.readlink(f"/proc/self/fd/{file}")
            except OSError:
                return None
        full = os.path.abspath(os.fsdecode(file))
        if not full.startswith(self.root + "/"):
            return None
        name = full[len(self.root) + 1 :]
        for pattern, word in _VARYING:
            name = pattern.sub(word, name)
        return name

    def begin(self, operation: str, file: Any) -> str:
        """Count an operation before it is done; returns the kind of the fault that is due, or an empty string."""
        name = self.path(file)
        if name is None:
            return ""
        self.seen[operation, name] += 1
        point = Point(operation, name, self.seen[operation, name])
        self.order.append(point)
        if point != self.at:
            return ""
        self.hit = True
        return self.kind

    def call(self, operation: str, file: Any, real: Callable[[], Any]) -> Any:
        """Do an operation that is done or not, and fail if that is due."""
        kind = self.begin(operation, file)
        if kind in _ERRORS:
            raise OSError(_ERRORS[kind], os.strerror(_ERRORS[kind]), file if isinstance(file, str) else None)
        if kind == "kill before":
            kill()
        result = real()
        if kind == "kill after":
            kill()
        return result

    def native(self, file: Any, real: Callable[[], Any], error: Callable[[str], Exception]) -> Any:
        """Do a write in C or Rust, as one operation; a torn one leaves half of the file."""
        kind = self.begin("write", file)
        if kind == "EIO":
            raise error(os.strerror(errno.EIO))
        result = real()
        if kind in ("full", "torn"):
            os.truncate(file, os.path.getsize(file) // 2)
            if kind == "torn":
                kill()
            raise error(os.strerror(errno.ENOSPC))
        return result


def kill() -> None:
    """End this process as SIGKILL does."""
    os.kill(os.getpid(), signal.SIGKILL)


def install(faults: Faults) -> None:
    """Wrap the operations of this process; it is a child that does nothing else."""
    _wrap_open(faults)
    _wrap_system_calls(faults)
    _wrap_native(faults)


def _wrap_open(faults: Faults) -> None:
    real = io.open

    class Raw(io.FileIO):
        def write(self, content: Any) -> int | None:
            kind = faults.begin("write", self.name)
            if getattr(self, "full", False):  # as when the file is closed after an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if kind == "EIO":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if kind in ("full", "torn"):
                super().write(bytes(content)[: len(content) // 2])
                if kind == "torn":
                    kill()
                self.full = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

        def fileno(self) -> int:
            if sys._getframe(1).f_globals.get("__name__", "").startswith("PIL."):
                raise io.UnsupportedOperation  # Pillow would write in C
            return super().fileno()

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        writes = set(mode) & set("wxa+")
        if not writes or isinstance(file, int) or faults.path(file) is None:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        name = os.fsdecode(file)
        plain = mode.replace("t", "").replace("b", "").replace("U", "")
        existed = os.path.exists(name)
        make = lambda: Raw(name, plain, closefd, opener)  # noqa: E731
        raw = make() if existed else faults.call("create", name, make)
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    builtins.open = io.open = opened  # type: ignore[assignment]


def _wrap_system_calls(faults: Faults) -> None:
    shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
    real_open, real_sync = os.open, os.fsync

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        real = lambda: real_open(path, flags, mode, dir_fd=dir_fd)  # noqa: E731
        makes = dir_fd is None and flags & os.O_CREAT and not os.path.exists(path)
        return faults.call("create", path, real) if makes else real()

    os.open = opened
    os.fsync = lambda handle: faults.call("sync", handle, lambda: real_sync(handle))
    for name, operation, last in (
        ("replace", "rename", True),
        ("rename", "rename", True),
        ("unlink", "unlink", False),
        ("remove", "unlink", False),
        ("mkdir", "mkdir", False),
    ):
        _wrap_call(faults, name, operation, last)


def _wrap_call(faults: Faults, name: str, operation: str, last: bool) -> None:
    real = getattr(os, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        if options.get("dir_fd") is not None or (operation == "unlink" and not os.path.lexists(args[0])):
            return real(*args, **options)
        parent = os.path.dirname(os.path.abspath(args[0]))
        if operation == "mkdir" and (os.path.isdir(args[0]) or not os.path.isdir(parent)):
            return real(*args, **options)
        return faults.call(operation, args[1] if last else args[0], lambda: real(*args, **options))

    setattr(os, name, wrapped)


def _wrap_native(faults: Faults) -> None:
    import numpy.lib.format
    import safetensors.torch
    import SimpleITK

    numpy.lib.format.isfileobj = lambda file: False  # else arrays are written in C
    for module in (numpy.lib.format, sys.modules.get("numpy.lib._format_impl")):
        if module is not None:
            module.isfileobj = lambda file: False
    save, write = safetensors.torch.save_file, SimpleITK.WriteImage

    def save_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
        faults.native(filename, lambda: save(tensors, filename, metadata), safetensors.SafetensorError)

    def write_image(image: Any, file: Any, *args: Any, **options: Any) -> None:
        faults.native(file, lambda: write(image, file, *args, **options), RuntimeError)

    safetensors.torch.save_file = save_file
    SimpleITK.WriteImage = write_image
