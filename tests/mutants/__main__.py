"""``make mutants``: change the code in some hundred places, one at a time, and count the changes that the tests notice.

A run can be stopped and goes on where it was: outcomes are kept in ``results.jsonl``. While cphloc stays as it
is, a mutant stays killed until the file of the killing test changes, and a survivor is tried anew after any change of
its tests. After a change of cphloc every mutant is tried anew, with the test that killed it last time first. It ends by
writing ``tests/MUTANTS.md``, which says how many of the mutants were tried.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from .report import write_report
from .sample import PACKAGES, ROOT, Mutant, sample
from .trial import Outcome, run, tests_of, trial, warm_up

RESULTS = Path(__file__).parent / "results.jsonl"


def main() -> None:
    """Try what has not been tried, then write the report."""
    options = _options()
    packages = [package for package in PACKAGES if package.startswith(options.package)]
    mutants = [mutant for package in packages for module in _modules(package) for mutant in sample(module)]
    results = _results()
    earlier = {mutant: results.get(_key(mutant), {}) for mutant in mutants}
    left = [mutant for mutant in mutants if not _stands(mutant, earlier[mutant])]
    if options.survivors:
        left = [mutant for mutant in left if not earlier[mutant].get("killed_by")]
    print(f"{len(mutants)} mutants, {len(left)} to try", flush=True)
    if left[: options.limit]:
        warm_up()
    for mutant in left[: options.limit]:
        limit_s = 20 + round(3 * _cpu_s_unchanged(mutant.module, results))
        outcome = trial(mutant, tests_of(mutant.module), limit_s, earlier[mutant].get("killed_by"))
        earlier[mutant] = _keep(_key(mutant), mutant.module, outcome)
        print(
            f"{outcome.cpu_s:6.1f} s  {mutant.module}:{mutant.line}  {mutant.change}  [{outcome.killed_by}]", flush=True
        )
    tried = [(mutant, result["killed_by"]) for mutant, result in earlier.items() if _stands(mutant, result)]
    survivors = sum(killed_by is None for _, killed_by in tried)
    print(f"{len(tried)} of {len(mutants)} tried, {len(tried) - survivors} killed, {survivors} survived")
    if packages == list(PACKAGES) and tried:
        write_report(tried, len(mutants))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("package", nargs="?", default="", help="only packages that begin so, for example data/io")
    parser.add_argument("--limit", type=int, help="try at most so many mutants, then stop")
    parser.add_argument("--survivors", action="store_true", help="try only those that were not killed last time")
    return parser.parse_args()


def _modules(package: str) -> list[str]:
    files = sorted((ROOT / "cphloc" / package).glob("*.py"))
    return [str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"]


def _cpu_s_unchanged(module: str, results: dict[str, dict]) -> float:
    """Seconds of processor time of a module's tests, which must pass on the code as it is."""
    tests = sorted(tests_of(module))
    key = " ".join(tests)
    if results.get(key, {}).get("code") != _hash_of_code(module):
        outcome = run(None, tests)
        if outcome.killed_by:
            msg = f"the tests of {module} fail without any change: {outcome.killed_by}"
            raise SystemExit(msg)
        results[key] = _keep(key, module, outcome)
    return results[key]["cpu_s"]


def _key(mutant: Mutant) -> str:
    return f"{mutant.module} {mutant.operator} {mutant.occurrence}"


def _stands(mutant: Mutant, result: dict) -> bool:
    return bool(result) and result["code"] == _hash_of_code(mutant.module, result["killed_by"])


def _hash_of_code(module: str, killed_by: str | None = None) -> str:
    """Hash of all that an outcome depends on: cphloc, what tests share, and the killing test's file or all of them."""
    tests = [killed_by.partition("::")[0]] if killed_by and "::" in killed_by else sorted(tests_of(module))
    return hashlib.sha256(_content(test for test in tests if (ROOT / test).is_file()) + _shared()).hexdigest()


@functools.cache
def _shared() -> bytes:
    support = (file for file in (ROOT / "tests").rglob("*.py") if not file.name.startswith("test_"))
    ours = Path(__file__).parent
    return _content(sorted([*(ROOT / "cphloc").rglob("*.py"), *(file for file in support if file.parent != ours)]))


def _content(files: Iterable[str | Path]) -> bytes:
    return hashlib.sha256(b"\0".join((ROOT / file).read_bytes() for file in files)).digest()


def _keep(key: str, module: str, outcome: Outcome) -> dict:
    result = {"key": key, "code": _hash_of_code(module, outcome.killed_by), **asdict(outcome)}
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    return result


def _results() -> dict[str, dict]:
    """Map each mutant, and each set of tests, to its latest outcome."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {result["key"]: result for result in map(json.loads, lines)}


if __name__ == "__main__":
    main()
