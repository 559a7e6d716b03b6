"""The dependency rule of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zreward"
PURE = {"distribution", "metrics", "objectives"}
EDGE = {"training", "generation", "serving", "studio"}
TOP = EDGE | {"evaluation", "report", "world", "demo", "reproduce", "cli"}
FORBIDDEN = {
    "rubric": TOP | {"models", "data"},
    "prompting": TOP | {"models", "data"},
    "data": TOP | {"models"},
    "models": TOP,
    "evaluation": EDGE | {"world", "demo", "reproduce", "cli"},
    "report": EDGE | {"models", "world", "demo", "reproduce", "cli"},
    "world": EDGE | {"evaluation", "report", "demo", "reproduce", "cli"},
    "training": (EDGE - {"training"}) | {"report", "demo", "reproduce", "cli"},
    "generation": (EDGE - {"generation"}) | {"demo", "reproduce", "cli"},
    "serving": (EDGE - {"serving"}) | {"demo", "reproduce", "cli"},
    "studio": (EDGE - {"studio"}) | {"demo", "reproduce", "cli"},
}
"""Room -> rooms that it may not import, at the top of a file or inside a function."""

HEAVY_ROOMS = {
    "matplotlib": {"report"},
    "diffusers": {"generation"},
    "fastapi": {"serving", "studio"},
    "sqlalchemy": {"studio"},
    "trl": set(),
    "datasets": set(),
    "bitsandbytes": set(),
    "vllm": set(),
    "ray": set(),
}
"""Optional library -> rooms that may import it when they are imported; all others only inside a function."""


def imports(tree: ast.AST, when_imported: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with `when_imported` those that run when the file itself is imported.

    `from zreward import metrics` counts as zreward.evaluation.metrics. Functions and TYPE_CHECKING blocks do not run on import; a
    `try` or `if` at the top of a file does.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write it out"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "zreward" else [module]
        elif when_imported and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif when_imported and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.orelse, []), when_imported)
        else:
            yield from imports(node, when_imported)


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


@each_file
def test_rooms_import_only_what_they_may(path):
    names = set(imports(parse(path)))
    own = {name.split(".")[1] for name in names if name.startswith("zreward.")}
    assert not own & FORBIDDEN.get(room(path), set())
    if room(path) in PURE:
        outside = {name.split(".")[0] for name in names} - {"zreward"} - set(sys.stdlib_module_names)
        assert own <= PURE | {"errors"}
        assert outside <= {"torch", "numpy", "scipy"}


@each_file
def test_heavy_imports_stay_in_their_room(path):
    loaded = {name.split(".")[0] for name in imports(parse(path), when_imported=True)} & set(HEAVY_ROOMS)
    assert all(room(path) in HEAVY_ROOMS[name] for name in loaded)


WORLD_TESTS = {"world", "docs", "studio", "reproduce", "test_demo.py", "commands"}
"""Folders and files of tests/ that may import the built-in world (guides speak of it).

The core's tests build their models with tests/tiny.py.
"""


def test_only_tests_of_the_world_import_it():
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        place = path.relative_to(ROOT / "tests")
        if place.parts[0] not in WORLD_TESTS and any(
            f"{name}.".startswith("zreward.world.") for name in imports(parse(path))
        ):
            found.add(str(place))
    assert not found, "build models with tests/tiny.py, or move what needs a trained model to tests/world"


@pytest.mark.parametrize(
    ("source", "found", "found_when_imported"),
    [
        ("import trl.trainer", {"trl.trainer"}, {"trl.trainer"}),
        ("from zreward import metrics as m", {"zreward.evaluation.metrics"}, {"zreward.evaluation.metrics"}),
        ("try:\n    import ray\nexcept ImportError:\n    ray = None", {"ray"}, {"ray"}),
        ("class A:\n    import ray", {"ray"}, {"ray"}),
        ("def f():\n    import ray", {"ray"}, set()),
        ("if TYPE_CHECKING:\n    import ray\nelse:\n    import vllm", {"ray", "vllm"}, {"vllm"}),
    ],
)
def test_imports_are_found(source, found, found_when_imported):
    assert set(imports(ast.parse(source))) == found
    assert set(imports(ast.parse(source), when_imported=True)) == found_when_imported


def test_importing_zreward_loads_no_model_code():
    code = "import sys, zreward; print([m for m in ('torch', 'transformers', 'datasets', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported():
    import zreward

    for name in zreward.__all__:
        assert getattr(zreward, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zreward.nothing
