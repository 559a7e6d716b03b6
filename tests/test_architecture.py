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
HEAVY = {"trl", "datasets", "diffusers", "fastapi", "matplotlib", "jinja2", "bitsandbytes", "vllm", "ray"}
ROOM_OF = {"matplotlib": "report", "jinja2": "report"}


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with `top_level_only` those outside functions and TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path):
    own = {name.split(".")[1] for name in imports(path) if name.startswith("zreward.")}
    outside = (
        {name.split(".")[0] for name in imports(path)} - {"zreward"} - set(sys.stdlib_module_names) - {"__future__"}
    )
    if room(path) in PURE:
        assert own <= PURE | {"errors"}
        assert outside <= {"torch", "numpy", "scipy"}
    if room(path) == "models":
        assert not own & (EDGE | {"evaluation", "report", "demo", "cli"})
    if room(path) in EDGE:
        assert not own & (EDGE - {room(path)})
    if room(path) in ("data", "rubric", "prompting"):
        assert not own & (EDGE | {"models", "evaluation", "world"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_imports_stay_in_their_room(path):
    loaded = {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY
    assert all(ROOM_OF.get(name) == room(path) for name in loaded)


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
