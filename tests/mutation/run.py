"""`make mutants`: change one expression of a core module at a time, and see whether a test notices.

One process imports everything and collects the tests once. Every mutant is a fork of it: the changed functions get their new
code, the module's tests run, fastest and most successful killers first, and the first failure ends it. Changes outside
functions (class bodies, defaults, decorators) import the package again in the fork. Results are kept in a file, so an interrupted
run goes on where it was; survivors are tried again unless docs/testing.md gives a verdict.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from forks import Forks, TestsFail
from mutants import Mutant, mutants
from plan import PLAN
from results import Results, stale, verdicts


class Session:
    """A pytest plugin in the place of the loop over tests: for every mutant, forks of the collected session."""

    def __init__(
        self, chosen: dict[str, list[Mutant]], plan: dict[str, list[str]], results: Results, root: Path
    ) -> None:
        self.chosen, self.plan, self.results, self.root = chosen, plan, results, root

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        for module, found in self.chosen.items():
            todo = [mutant for mutant in found if self.results.undecided(mutant)]
            done = len(found) - len(todo)
            print(f"{module}: {len(found)} mutants, {done} known", flush=True)
            if not todo:
                continue
            items = [item for file in self.plan[module] for item in session.items if item.path == self.root / file]
            try:
                forks = Forks(self.root, module, items, self.results.folder)
            except TestsFail as error:
                print(f"  left out: {error}", flush=True)
                continue
            for number, mutant in enumerate(todo, done + 1):
                outcome, killer, seconds = forks.outcome(mutant)
                self.results.add(mutant, outcome, killer, seconds)
                if outcome == "survived" or number % 25 == 0:
                    print(f"  {number}/{len(found)} {outcome} {mutant if outcome == 'survived' else ''}", flush=True)
        return True


def main(arguments: list[str] | None = None, plan: dict[str, list[str]] = PLAN) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", choices=sorted(plan), help="only this one (may be repeated)")
    parser.add_argument("--sample", type=int, help="so many mutants of all, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="of the repository")
    parser.add_argument("--out", type=Path, help="folder of the results; default: runs/mutants")
    parser.add_argument("--stale", action="store_true", help="only list verdicts on mutants that do not exist any more")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    reasons = verdicts(root / "docs" / "testing.md")
    if options.stale:
        found = stale(root, reasons, plan)
        for module, before, after in found:
            print(f"no such mutant: {module}\n    - {before}\n    + {after}")
        return int(bool(found))
    sys.path.insert(0, str(root))  # as `python -m pytest` does: tests import tests.tiny
    plan = {module: files for module, files in plan.items() if module in (options.module or plan)}
    every = [mutant for module in plan for mutant in mutants(module, (root / module).read_text())]
    if options.sample is not None:
        every = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    chosen = {module: sorted((m for m in every if m.module == module), key=lambda m: m.line) for module in plan}
    results = Results(options.out or root / "runs" / "mutants", reasons)
    files = list(dict.fromkeys(root / file for module in chosen for file in plan[module]))
    scratch = results.folder / "scratch"
    code = pytest.main(
        [
            *map(str, files),
            "-q",
            "-s",
            "--tb=native",
            "-p",
            "no:cacheprovider",
            f"--rootdir={root}",
            f"--basetemp={scratch}",
        ],
        plugins=[Session(chosen, plan, results, root)],
    )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return int(code)
    return report(chosen, results)


def report(chosen: dict[str, list[Mutant]], results: Results) -> int:
    """Print the rates and the survivors; 0 when all were tried, at least 90 % were killed, and every survivor has a verdict."""
    total: Counter[str] = Counter()
    silent = []
    print(f"\n{'module':44} mutants killed survived   rate")
    for module, found in chosen.items():
        count = Counter(results.outcome(mutant) for mutant in found)
        total += count
        print(_row(module, count))
        silent += [m for m in found if results.outcome(m) == "survived" and not results.verdict(m)]
    print(_row("all", total))
    for mutant in silent:
        print(f"\nno verdict: {mutant}")
    return int(bool(silent or total["unknown"]) or total["killed"] < 0.9 * sum(total.values()))


def _row(name: str, count: Counter[str]) -> str:
    all_of_it = sum(count.values())
    return (
        f"{name:44} {all_of_it:7} {count['killed']:6} {count['survived']:8} {count['killed'] / max(all_of_it, 1):6.1%}"
    )


if __name__ == "__main__":
    sys.exit(main())
