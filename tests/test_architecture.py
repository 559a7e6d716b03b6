"""The table of docs/architecture.md, compared with what the files import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zreward"
TABLE = ROOT / "docs" / "architecture.md"
PURE = {"zreward.distribution", "zreward.evaluation.metrics"}  # and objectives/: mathematics, on three libraries

HEAVY_ROOMS = {
    "matplotlib": {"evaluation"},
    "diffusers": {"generation"},
    "fastapi": {"serving", "studio", "studio.routes"},
    "starlette": {"serving", "studio", "studio.routes"},
    "sqlalchemy": {"studio", "studio.routes", "studio.domain", "studio.storage"},
    "alembic": {"studio.storage"},
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


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    """`models` for zreward.models.tokens; `studio.domain` where the table has such a row; `zreward` for the package itself."""
    name = module.removeprefix("zreward.")
    inner = ".".join(name.split(".")[:2])
    return inner if inner in allowed() else name.split(".")[0]


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_of(path): path for path in FILES}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def modules_of(path: Path, when_imported: bool = False) -> set[str]:
    """The modules of zreward that a file imports; `from zreward.a import b` is zreward.a.b where that is a module."""
    found = set()
    for node in ast.walk(parse(path)) if not when_imported else _running(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = f"zreward.{node.module}" if node.level else str(node.module)  # relative only in __init__.pyi
            full = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else module for name in full}
    return {name for name in found if name in MODULES}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _running(ast.Module(node.orelse, []))
        else:
            yield node
            yield from _running(node)


@cache
def allowed() -> dict[str, set[str]]:
    """Room -> rooms that it may import, read off the table."""
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|$", TABLE.read_text(encoding="utf-8"), re.M)
    return {name: set(re.findall(r"`([\w.]+)`", may)) for name, may in rows}


def test_the_table_is_what_the_code_imports():
    """Exactly: an import that the table does not allow fails, and so does a permission that nothing uses."""
    used: dict[str, set[str]] = {room(module): set() for module in MODULES}
    for module, path in [*MODULES.items(), ("zreward", PACKAGE / "__init__.pyi")]:
        used[room(module)] |= {room(name) for name in modules_of(path)} - {room(module)}
    assert used == allowed()


STUDIO_LAYERS = ("studio.storage", "studio.domain", "studio.routes", "studio")
"""From the bottom to the top: each may import those before it."""
ENGINE = {"zreward.studio.storage.database", "zreward.studio.storage.opening"}


@pytest.mark.parametrize("layer", STUDIO_LAYERS)
def test_no_layer_of_the_studio_may_import_one_above_it(layer):
    """Nor may the table say so: the test before this one compares it with the code."""
    above = STUDIO_LAYERS[STUDIO_LAYERS.index(layer) + 1 :]
    assert layer in allowed() and not allowed()[layer] & set(above)


@each_file
def test_the_studios_rules_know_neither_requests_nor_engines(path):
    if room(module_of(path)) in ("studio.domain", "studio.storage"):
        outside = {name.split(".")[0] for name in imports(parse(path))}
        assert not outside & {"fastapi", "starlette", "uvicorn", "jinja2"}
    if room(module_of(path)) == "studio.domain":
        assert not modules_of(path) & ENGINE and "create_engine" not in path.read_text(encoding="utf-8")


def test_no_module_imports_itself_by_a_detour():
    todo = {module: modules_of(path, when_imported=True) - {module} for module, path in MODULES.items()}
    while leaves := [module for module, needs in todo.items() if not needs & todo.keys()]:
        for module in leaves:
            del todo[module]
    assert not todo


@each_file
def test_mathematics_stands_on_three_libraries(path):
    if module_of(path) in PURE or room(module_of(path)) == "objectives":
        outside = {name.split(".")[0] for name in imports(parse(path))} - {"zreward"} - set(sys.stdlib_module_names)
        assert outside <= {"torch", "numpy", "scipy"}


@each_file
def test_only_the_world_and_the_command_line_know_the_world(path):
    if room(module_of(path)) not in ("world", "cli"):
        assert not re.search(r"world:|oracle|zreward\.world", path.read_text(encoding="utf-8"))


@each_file
def test_heavy_imports_stay_in_their_room(path):
    loaded = {name.split(".")[0] for name in imports(parse(path), when_imported=True)} & set(HEAVY_ROOMS)
    assert all(room(module_of(path)) in HEAVY_ROOMS[name] for name in loaded)


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
        ("from zreward import rubric as r", {"zreward.rubric"}, {"zreward.rubric"}),
        ("try:\n    import ray\nexcept ImportError:\n    ray = None", {"ray"}, {"ray"}),
        ("class A:\n    import ray", {"ray"}, {"ray"}),
        ("def f():\n    import ray", {"ray"}, set()),
        ("if TYPE_CHECKING:\n    import ray\nelse:\n    import vllm", {"ray", "vllm"}, {"vllm"}),
    ],
)
def test_imports_are_found(source, found, found_when_imported):
    assert set(imports(ast.parse(source))) == found
    assert set(imports(ast.parse(source), when_imported=True)) == found_when_imported
