"""Names of models: a folder, a hub name, or a name that an installed package offers (`common.registry`)."""

from __future__ import annotations

from pathlib import Path

from zreward.common import registry
from zreward.common.errors import InputError


def find_model(name: str | Path) -> str:
    """The checkpoint folder or hub name that a name leads to.

    Raises InputError for an unknown name of a registered prefix, and for a prefix that nobody registered.
    """
    if str(name).startswith("scratch:"):
        raise InputError(f"{name}: scratch: is for recipes only (model.name); expected a checkpoint folder or hub name")
    if str(name).startswith("endpoint:"):
        raise InputError(
            f"{name}: endpoints are for `zreward label` and `zreward evaluate`; expected a checkpoint here"
        )
    return registry.resolve(registry.MODELS, name, "checkpoint folder")
