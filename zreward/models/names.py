"""Names of models: `world:small` belongs to whoever registered the prefix `world`; any other name is a folder or a hub name.

A package offers names of its own with an entry point of the group `zreward.models`: the prefix, and a function from what
follows the colon to a checkpoint folder or hub name. With `acme = "acme_judges:find"`, `acme:strict` is `find("strict")`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from zreward.common.errors import InputError

GROUP = "zreward.models"
OURS = EntryPoint("world", "zreward.world.base_models:shipped", GROUP)
"""Also in pyproject.toml; here for a checkout whose installed metadata is older."""


def find_model(name: str | Path) -> str:
    """The checkpoint folder or hub name that a name leads to.

    Raises InputError for an unknown name of a registered prefix, and for a prefix that nobody registered.
    """
    prefix, colon, rest = str(name).partition(":")
    # A path may hold a colon, also as its second letter (C:\\models).
    if isinstance(name, Path) or not colon or len(prefix) < 2 or "/" in prefix or "\\" in prefix:
        return str(name)
    registered = _registered()
    if prefix in registered:
        return str(_finder(registered[prefix])(rest))
    if Path(name).exists():
        return str(name)
    known = ", ".join(f"{each}:" for each in sorted(registered))
    raise InputError(
        f"{name}: no such checkpoint folder, and no installed package offers models called {prefix}:...; known are {known} "
        "(scratch: stands in recipes only)"
    )


@cache
def _registered() -> dict[str, EntryPoint]:
    # Ours comes last: no other package takes its prefix.
    return {point.name: point for point in [*entry_points(group=GROUP), OURS]}


def _finder(point: EntryPoint):
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{point.name}: names lead to {point.value}, which cannot be imported ({error}); mend or remove that package"
        ) from error
