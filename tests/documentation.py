"""Run a page of the documentation: its files, its commands and its Python, in the order in which one types them."""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cphloc.cli import main

_FENCE = re.compile(r"^```(\w+)(?:[ \t]+title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", flags=re.M | re.S)
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", flags=re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is the content of (if any), and its text."""

    language: str
    file: str | None
    text: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page in their order; those that are indented, as in a tab, count too."""
    flat = re.sub(r"^(?: {4})+(?=```)", "", text, flags=re.M)
    return [Block(language, file or None, body) for language, file, body in _FENCE.findall(flat)]


def stated(text: str) -> dict[str, Any]:
    """What the front matter of a page says about its test: ``arguments`` that make a command quick, and ``slow``."""
    found = _FRONT.match(text)
    return (yaml.safe_load(found[1]) or {}).get("test", {}) if found else {}


def run(path: Path, monkeypatch: pytest.MonkeyPatch, quick: dict[str, str] | None = None) -> int:
    """Run every block of a page in the working folder and return how many commands and snippets ran.

    ``bash`` blocks hold commands, blocks with a title are files, ``python`` blocks share their names, ``sh`` blocks
    (installation, servers) and ``text`` blocks (what is printed) are not run.

    Args:
        path: the page.
        monkeypatch: changes the environment where a command begins with ``NAME=value``.
        quick: arguments by command that make it quick, in place of those in the front matter.
    """
    text = path.read_text(encoding="utf-8")
    extra, names, count = quick or stated(text).get("arguments", {}), {"__name__": "page"}, 0
    for block in blocks(text):
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, f"{path.name}: {block.text.splitlines()[0]}", "exec"), names)
            count += 1
        elif block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                count += command(line, extra, monkeypatch)
    return count


def command(line: str, extra: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one line of a terminal; 0 where it holds a comment only."""
    words = shlex.split(line, comments=True)
    with monkeypatch.context() as patch:
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            patch.syspath_prepend(value) if name == "PYTHONPATH" else patch.setenv(name, value)
        if not words:
            return 0
        if words[0] != "cphloc":
            subprocess.run([sys.executable if words[0] == "python" else words[0], *words[1:]], check=True)
            return 1
        words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word]) or [word]]
        assert main([*words[1:], *shlex.split(extra.get(words[1], ""))]) == 0, line
    return 1
