"""Exceptions of cphloc, suggestions for misspelled names, and the texts that messages are made of.

Every message states where the error is, what is wrong, and what to do. The command line prints only the message and
exits with ``exit_code``; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

_USER = re.compile(
    r"(?<=://)(?:[^/?#\s'\"]*"
    r"|[^\s/?#:@\[\]'\"]*:(?!\d{1,5}(?:[/?#]|$))[^\s'\"]{0,256})@"  # databases allow '/', '?' and '#' in a password
)
_QUERY = re.compile(r"(?<=[^\s])[?#][^\s'\"()<>?#=]*=[^\s'\"()<>]*")
_JOINERS = "\u200c\u200d"
"""Invisible characters that Persian, Indic scripts and emoji need."""


def without_secrets(text: str) -> str:
    """Remove user names, passwords, query strings and values in fragments, which may be secrets, from URLs in a text.

    >>> without_secrets("http://bob:pw@host/zoo cannot be read; https://host/a?token=1 neither")
    'http://host/zoo cannot be read; https://host/a neither'
    """
    return _QUERY.sub("", _USER.sub("", text)) if "://" in text else text


def printable(text: str) -> str:
    """Escape control characters, which a terminal would obey, and invisible ones that reorder text; keep line breaks.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.replace("\n", "").isprintable():
        return text
    shown = (c if c.isprintable() or c in "\n" + _JOINERS else _ESCAPED.get(c) or _escape(c) for c in text)
    return "".join(shown)


def one_line(text: str) -> str:
    """Escape as `printable` does, and replace line breaks by spaces, so that a text cannot look like several.

    >>> one_line("a model\\nunet3d-ct@9.9.9  the best")
    'a model unet3d-ct@9.9.9  the best'
    """
    return printable(" ".join(text.splitlines()) if not text.isprintable() else text)


def counted(count: int, what: str) -> str:
    """Return a number with what is counted, in the singular or plural.

    >>> counted(1, "case"), counted(2, "box"), counted(3, "training case")
    ('1 case', '2 boxes', '3 training cases')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}{'es' if what.endswith(('s', 'x')) else 's'}"


_ESCAPED = {"\t": "    ", "\u00a0": " ", "\u202f": " ", "\u3000": " "}


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


class CphlocError(Exception):
    """Base class of all errors of cphloc; raised itself for errors not caused by input, such as a full disk.

    The message may quote a file or an address of a stranger: control characters are escaped, secrets removed.
    """

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(without_secrets(a)) if isinstance(a, str) else a for a in args))


class InputError(CphlocError, ValueError):
    """Invalid input of the user: a recipe, file, name or argument."""

    exit_code = 2


class DataError(InputError):
    """Invalid image, annotation or data set; the message contains the file name."""


class NotFoundError(InputError):
    """Name or file that does not exist."""


class MissingExtraError(InputError):
    """Optional package that is needed but not installed.

    Args:
        what: what needs the package, for the message.
        extra: extra of cphloc that installs it, such as ``ray``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'cphloc[{extra}]'")
        self.needed = what, extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Make the exception picklable, to pass between processes."""
        return type(self), self.needed


EXTRAS: Mapping[str, str] = {
    "matplotlib": "plot",
    "lightning": "train",
    "albumentations": "train",
    "faster_coco_eval": "train",
    "mlflow": "mlflow",
    "highdicom": "dicom",
    "cryptography": "sign",
    "huggingface_hub": "hub",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "openvino": "fast",
    "monai": "monai",
    "ray": "ray",
    "optuna": "sweep",
    "h5py": "mat",
}
"""Optional package -> the extra of cphloc that installs it."""


@contextmanager
def needs(what: str) -> Iterator[None]:
    """Context manager that names the extra where an optional package is not installed.

    Args:
        what: what needs the package, for the message.

    Raises:
        MissingExtraError: a package of `EXTRAS` is missing; other import errors stay as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise MissingExtraError(what, extra) from error


@dataclass(frozen=True)
class Problem:
    """One error in a recipe or card.

    Args:
        where: its position as ``file:line:col``, or ``--set key=value``.
        path: dotted key, such as ``train.steps``.
        what: what is wrong.
        fix: what to do.
    """

    where: str
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.path}: {self.what}; {self.fix}")


class RecipeError(InputError):
    """Invalid recipe or card, with all its errors; the message has one line for each.

    Args:
        problems: the errors.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type, tuple[tuple[Problem, ...]]]:
        """Make the exception picklable, to pass between processes."""
        return type(self), (self.problems,)


MAX_NAME = 100
"""Longer names get no suggestion: the comparison takes quadratic time."""
MAX_CANDIDATES = 5000
"""Number of names among which a suggestion is searched."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the candidate most similar to ``name``; an empty string if none is similar.

    >>> did_you_mean("dice_cd", ["dice_ce", "focal"])
    "did you mean 'dice_ce'?"
    >>> did_you_mean("qqq", ["dice_ce"])
    ''
    """
    if len(name) > MAX_NAME:
        return ""
    candidates = [c for c in candidates if len(c) <= MAX_NAME][:MAX_CANDIDATES]
    by_folded = {c.casefold().replace("-", "_"): c for c in candidates}
    folded = str(name).casefold().replace("-", "_")
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f"did you mean '{by_folded[near[0]]}'?" if near else ""
