"""Names that other packages bring (models, judges, prompts, generators, methods, defects, trace editors), by entry points.

A package declares them in its own pyproject.toml, and needs no change here:

    [project.entry-points."zreward.models"]
    acme = "acme_rewards:find_model"

After `pip install acme-rewards`, `acme:strict` is a model's name everywhere, and leads to `find_model("strict")`.

| group | a name | what it leads to |
| --- | --- | --- |
| zreward.models | the prefix of `acme:strict` | function(rest) -> checkpoint folder or hub name |
| zreward.generators | the prefix of `acme:fast` | function(rest) -> folder or hub name of a diffusers pipeline |
| zreward.prompts | the prefix of `acme:400` | function(rest, seed, exclude) -> list of different prompts |
| zreward.judges | the whole name, `acme` | function() -> `generation.judges.Judge` |
| zreward.audit_defects | the whole name, `acme` | function(prompts, seed) -> list of `audit.known.KnownDefect` |
| zreward.methods | the whole name, `acme` | a `training.methods.Method` |
| zreward.trace_editors | the whole name, `acme` | function(text, prompt, dimension) -> list of `evaluation.coupling_edits.Edit` |
| zreward.defaults | a recipe's key, such as `generator.name` | the value (a text) that older recipes without the key meant |
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError

MODELS, GENERATORS, PROMPTS = "zreward.models", "zreward.generators", "zreward.prompts"
JUDGES, METHODS = "zreward.judges", "zreward.methods"
DEFAULTS, AUDIT_DEFECTS = "zreward.defaults", "zreward.audit_defects"
TRACE_EDITORS = "zreward.trace_editors"


def names(group: str) -> list[str]:
    """The names that installed packages offer in a group, in alphabetical order."""
    return sorted(_registered(group))


def find(group: str, name: str) -> Any:
    """What a registered name leads to; None for a name that nobody registered.

    Raises InputError where the package cannot be imported, or where two packages offer the same name.
    """
    points = _registered(group).get(name, [])
    if len(points) > 1:
        places = " and ".join(sorted(point.value for point in points))
        raise InputError(f"{name}: two installed packages offer this name ({places}); remove one of them")
    return _load(points[0]) if points else None


def resolve(group: str, name: str | Path, what: str) -> str:
    """The folder or hub name that `name` leads to: itself, unless it is PREFIX:REST.

    Raises InputError for a prefix that nobody registered; `what` names the kind of thing ("checkpoint folder").
    """
    parts = split(name)
    if parts is None:
        return str(name)
    finder = find(group, parts[0])
    if finder is not None:
        return str(finder(parts[1]))
    if Path(name).exists():
        return str(name)
    known = ", ".join(f"{each}:" for each in names(group)) or "none"
    raise InputError(
        f"{name}: no such {what}, and no installed package offers {group.rpartition('.')[2]} called {parts[0]}:...; "
        f"known prefixes: {known}"
    )


def split(name: str | Path) -> tuple[str, str] | None:
    """("acme", "strict") of `acme:strict`; None for a path or hub name, which may hold a colon too (C:\\models)."""
    prefix, colon, rest = str(name).partition(":")
    if isinstance(name, Path) or not colon or len(prefix) < 2 or "/" in prefix or "\\" in prefix:
        return None
    return prefix, rest


@cache
def _registered(group: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        same = found.setdefault(point.name, [])
        if point.value not in [other.value for other in same]:  # one package may be on the path twice
            same.append(point)
    return found


@cache
def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{point.name}: the name leads to {point.value}, which cannot be imported ({error}); repair or remove that package"
        ) from error
