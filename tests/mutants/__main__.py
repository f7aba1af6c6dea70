"""``make mutants``: change the code in some hundred places, one at a time, and count the changes that the tests notice.

A run can be stopped and goes on where it was: outcomes are kept in ``results.jsonl`` for as long as neither the changed
module nor its test files change. Once all mutants are tried it writes ``tests/MUTANTS.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from .report import write_report
from .sample import PACKAGES, ROOT, Mutant, sample
from .trial import Outcome, tests_of, trial, warm_up

RESULTS = Path(__file__).parent / "results.jsonl"


def main() -> None:
    """Try what has not been tried, then write the report."""
    options = _options()
    if options.fresh:
        RESULTS.unlink(missing_ok=True)
    packages = [package for package in PACKAGES if package.startswith(options.package)]
    modules = [module for package in packages for module in _modules(package)]
    mutants = [mutant for module in modules for mutant in sample(module)]
    results = _results()
    left = [mutant for mutant in mutants if _key(mutant) not in results]
    print(f"{len(mutants)} mutants, {len(left)} to try", flush=True)
    if left[: options.limit]:
        warm_up()
    for mutant in left[: options.limit]:
        tests = tests_of(mutant.module)
        outcome = trial(mutant, tests, 20 + round(3 * _cpu_s_unchanged(mutant.module, results)))
        results[_key(mutant)] = _keep(_key(mutant), outcome, mutant)
        print(
            f"{outcome.cpu_s:6.1f} s  {mutant.module}:{mutant.line}  {mutant.change}  [{outcome.killed_by}]", flush=True
        )
    tried = [(mutant, results[_key(mutant)]["killed_by"]) for mutant in mutants if _key(mutant) in results]
    survivors = sum(killed_by is None for _, killed_by in tried)
    print(f"{len(tried)} of {len(mutants)} tried, {len(tried) - survivors} killed, {survivors} survived")
    if packages == list(PACKAGES) and len(tried) == len(mutants):
        write_report(tried)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("package", nargs="?", default="", help="only packages that begin so, for example data/io")
    parser.add_argument("--limit", type=int, help="try at most so many mutants, then stop")
    parser.add_argument("--fresh", action="store_true", help="forget earlier outcomes")
    return parser.parse_args()


def _modules(package: str) -> list[str]:
    files = sorted((ROOT / "cphloc" / package).glob("*.py"))
    return [str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"]


def _cpu_s_unchanged(module: str, results: dict[str, dict]) -> float:
    """Seconds of processor time that the tests of a module's package need; they must pass on the code as it is."""
    package = str(Path(module).parent)
    tests = sorted(tests_of(module))
    key = _hash(package, *((ROOT / test).read_text() for test in tests))
    if key not in results:
        outcome = trial(None, tests)
        if outcome.killed_by:
            msg = f"the tests of {package} fail without any change: {outcome.killed_by}"
            raise SystemExit(msg)
        results[key] = _keep(key, outcome)
    return results[key]["cpu_s"]


def _key(mutant: Mutant) -> str:
    """Hash of all that decides the outcome of a mutant: the change, the module and its tests."""
    files = (mutant.module, *tests_of(mutant.module))
    return _hash(mutant.operator, str(mutant.occurrence), *((ROOT / file).read_text() for file in files))


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _keep(key: str, outcome: Outcome, mutant: Mutant | None = None) -> dict:
    result = {"key": key, **asdict(outcome), **(asdict(mutant) if mutant else {})}
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    return result


def _results() -> dict[str, dict]:
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {result["key"]: result for result in map(json.loads, lines)}


if __name__ == "__main__":
    main()
