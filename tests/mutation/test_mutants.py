"""`make mutants` on a package of one small module: what it finds, what it keeps, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

MODULE = '''
"""A docstring with 1 + 1."""
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Side:
    length: float = 2.0

    @property
    def area(self) -> float:
        return self.length * self.length


@cache
def halved(x: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is less than {0 + 0}")
    return x // 2


def untested(x: int) -> int:
    return x + 1
'''

CAUGHT = """
import json

def read(text):
    try:
        return json.loads(text)
    except (json.JSONDecodeError, TypeError):
        return None
"""

MORE = """
def twice(x):
    return 2 * x
"""

TESTS = """
import pytest
from pocket.more import twice
from pocket.sides import Side, halved, untested

def test_area():
    assert Side(3.0).area == 9.0
    assert Side().area == 4.0
    with pytest.raises(AttributeError):
        Side().length = 3.0

def test_halved():
    assert halved(5) == 2 and halved(0) == 0
    with pytest.raises(ValueError):
        halved(-1)

def test_twice():
    assert twice(3) == 6

def test_that_it_runs():
    untested(1)
"""

CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from run import main
plan = dict.fromkeys(["pocket/sides.py", "pocket/more.py"], ["tests/test_sides.py"])
sys.exit(main(["--root", sys.argv[2], *sys.argv[3:]], plan))
"""


@pytest.fixture(scope="module")
def pocket(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pocket")
    files = {"__init__.py": "", "sides.py": MODULE, "more.py": MORE, "../tests/test_sides.py": TESTS}
    (root / "pocket").mkdir()
    for name, text in [(f"pocket/{name}", text) for name, text in files.items()]:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CALL, str(HERE), str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(root)}, timeout=120)


def outcomes(root: Path) -> dict[str, str]:
    """mutant -> killed or survived"""
    rows = [json.loads(line) for line in (root / "runs" / "mutants" / "results.jsonl").read_text().splitlines()]
    return {row["mutant"]: row["outcome"] for row in rows}


def test_killed_survived_and_left_out(pocket):
    first = run(pocket)
    assert first.returncode == 1, first.stdout + first.stderr
    found = outcomes(pocket)
    survived = [mutant for mutant, outcome in found.items() if outcome == "survived"]
    # Nobody looks at what `untested` returns. A cache changes no value, so its decorator may go.
    assert all("x + 1" in mutant or "@cache" in mutant for mutant in survived) and len(survived) >= 4
    killed = "".join(mutant for mutant, outcome in found.items() if outcome == "killed")
    # A property, a decorated function, a default and a decorator of a class: code inside and outside functions.
    for changed in ("self.length / self.length", "x // 3", "x <= 0", "length: float = 3.0", "frozen=False"):
        assert f"+ {changed}" in killed or changed in killed, killed
    assert "0 + 1" not in str(found) and "1 - 1" not in str(found)  # a message, and a docstring
    assert "no verdict: pocket/sides.py:24" in first.stdout


def test_results_are_kept_and_verdicts_close_the_list(pocket):
    if not (pocket / "runs").exists():
        run(pocket)
    survivors = [mutant.splitlines() for mutant, outcome in outcomes(pocket).items() if outcome == "survived"]
    lines = [
        f"- `pocket/sides.py`: `` {before.strip()[2:]} `` → `` {after.strip()[2:]} ``" for _, before, after in survivors
    ]
    (pocket / "docs").mkdir()
    (pocket / "docs" / "testing.md").write_text("\n".join(lines))
    size = (pocket / "runs" / "mutants" / "results.jsonl").stat().st_size
    second = run(pocket)
    assert "no verdict" not in second.stdout, second.stdout + second.stderr
    assert (pocket / "runs" / "mutants" / "results.jsonl").stat().st_size == size


def test_verdicts_on_mutants_that_do_not_exist(pocket):
    """Of code that is gone, of a change that nobody makes, and of a module outside the plan."""
    page, exists = pocket / "docs" / "testing.md", "- `pocket/sides.py`: `` return x + 1 `` → `` return x - 1 ``"
    stale = [
        "- `pocket/more.py`: `` return 3 * x `` → `` return 4 * x ``",
        "- `pocket/sides.py`: `` return x + 1 `` → `` return x + 3 ``",
        "- `pocket/third.py`: `` return x + 1 `` → `` return x - 1 ``",
    ]
    page.parent.mkdir(exist_ok=True)
    for lines, code in (([exists], 0), ([exists, *stale], 1)):
        page.write_text("\n".join(lines))
        found = run(pocket, "--stale")
        assert found.returncode == code and found.stdout.count("no such mutant") == len(lines) - 1, (
            found.stdout + found.stderr
        )
    page.unlink()
    for line in stale:
        assert line.split("``")[3].strip() in found.stdout


def test_every_verdict_is_on_a_mutant_of_todays_code():
    found = subprocess.run([sys.executable, HERE / "run.py", "--stale"], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr


def changed(text: str) -> list[tuple[str, str]]:
    """(key, changed code) of every mutant, in a process of its own: the tool's modules have common names."""
    call = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from mutants import mutants\n"
        "print(json.dumps([(m.key, m.after) for m in mutants('pocket/it.py', sys.stdin.read())]))"
    )
    command = [sys.executable, "-c", call, str(HERE)]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=120)
    return [tuple(each) for each in json.loads(found.stdout)]


def test_exceptions_of_a_library_are_replaced_too():
    found = [code for _, code in changed(CAUGHT) if "except" in code]
    nothing = "CosmicRayTestingException"
    assert found == [f"except ({nothing}, TypeError):", f"except (json.JSONDecodeError, {nothing}):"]


def test_results_hold_while_the_method_stays_as_it_is():
    """Another method of the class may change: what is known of this one's mutants is not tried again."""
    before = dict(changed(MODULE.replace("@cache", "")))
    after = dict(changed(MODULE.replace("@cache", "").replace("length: float = 2.0", "length: float = 5.0")))
    lost = {code for key, code in before.items() if key not in after}
    assert "length: float = 3.0" in lost and not any("self" in code for code in lost)
    assert any("self.length / self.length" in code for key, code in before.items() if key in after)


def test_a_failing_test_is_no_killer(pocket):
    """A module whose tests fail without a mutant cannot be judged."""
    tests = pocket / "tests" / "test_sides.py"
    tests.write_text(TESTS + "\ndef test_wrong():\n    assert halved(4) == 3\n")
    (pocket / "docs" / "testing.md").unlink(missing_ok=True)
    result = run(pocket)
    tests.write_text(TESTS)
    assert result.returncode == 1
    assert "test_wrong fails without a mutant" in result.stdout + result.stderr
