"""Write ``tests/MUTANTS.md``: what was tried, how much of it the tests noticed, and why the rest survived."""

from __future__ import annotations

import subprocess
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import yaml

from .sample import EVERY, PACKAGES, ROOT, SEED, Mutant

EXPLAINED = Path(__file__).parent / "survivors.yaml"
HEAD = """# Mutants

`make mutants` changes the code in {tried} places, one at a time (a `<` into a `<=`, a 1 into a 2, an `and` into an
`or`, a loop that never runs), and runs the tests of the changed module and of its package. A mutant is killed when a
test fails. The changes are those of [cosmic-ray](https://cosmic-ray.readthedocs.io) {version}, one at every {every}th
place of a module that can be changed; the first place and the change at each are drawn with seed {seed}. Left out are
annotations, error messages, logging and type-only imports, and `==` against `is`.

Written {date} by the command for commit {commit}; the reasons are kept in `tests/mutants/survivors.yaml`. A mutant that
an earlier run killed counts as killed while the code and the test that killed it are unchanged.{changed}

| package | mutants | killed | survived | share killed |
|---|---:|---:|---:|---:|
"""


def write_report(tried: list[tuple[Mutant, str | None]], chosen: int) -> None:
    """Write the page.

    Args:
        tried: Each mutant that was tried and the test that killed it, ``None`` for a survivor.
        chosen: Number of mutants in all; fewer are tried where the run was stopped.
    """
    commit = _git("rev-parse", "--short", "HEAD").strip()
    status = _git("status", "--porcelain", "--untracked-files=all", "cphloc", "tests").splitlines()
    tests = ", ".join(f"`{line[3:]}`" for line in status if "/test_" in line)
    changed = f"\n\nTests added or changed since that commit, in {tests}." if tests else ""
    date, version = datetime.now(UTC).strftime("%Y-%m-%d"), metadata.version("cosmic-ray")
    text = HEAD.format(
        tried=len(tried), version=version, every=EVERY, seed=SEED, date=date, commit=commit, changed=changed
    )
    text += "".join(_row(package, [t for t in tried if _package(t[0]) == package]) for package in PACKAGES)
    text += _row("all", tried) + _ends(tried)
    if len(tried) < chosen:
        text += f"\nThe run was stopped: {len(tried)} of {chosen} mutants are tried; `make mutants` goes on.\n"
    text += "\n## Survivors\n"
    explained = yaml.safe_load(EXPLAINED.read_text()) or {}
    for mutant, killed_by in tried:
        if killed_by is None:
            reason = explained.get(mutant.module, {}).get(mutant.change, "not yet explained")
            text += f"\n- `{mutant.module}:{mutant.line}`  \n  `{mutant.change}`  \n  {reason}\n"
    (ROOT / "tests" / "MUTANTS.md").write_text(text)


def _git(*command: str) -> str:
    return subprocess.check_output(["git", "-C", ROOT, *command], text=True)


def _package(mutant: Mutant) -> str:
    return str(Path(mutant.module).parent.relative_to("cphloc"))


def _row(name: str, tried: list[tuple[Mutant, str | None]]) -> str:
    survived = sum(killed_by is None for _, killed_by in tried)
    share = f"{1 - survived / len(tried):.1%}" if tried else "not tried"
    return f"| {name} | {len(tried)} | {len(tried) - survived} | {survived} | {share} |\n"


def _ends(tried: list[tuple[Mutant, str | None]]) -> str:
    """Say how many ended without a failing test."""
    counts = Counter(killed_by for _, killed_by in tried)
    return (
        f"\nOf those killed, {counts['time']} ran past three times the time of the unchanged code, {counts['crash']} "
        f"ended the process, and {counts['import']} could not be imported; a failing test ended the rest.\n"
    )
