"""Import paths of version 0.1 go on working, and say where the module is now."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from zreward.common.moved import MOVED


@pytest.mark.parametrize("old", [*MOVED, "zreward.plugins.rewards", "zreward.report.plots"])
def test_an_old_path_leads_to_the_module(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now zreward."):
        alias = import_module(old)
    new = import_module(next(MOVED[key] + old.removeprefix(key) for key in MOVED if f"{old}.".startswith(f"{key}.")))
    names = [name for name in vars(new) if not name.startswith("_")]
    assert (names or new.__doc__ == alias.__doc__) and all(getattr(alias, name) is getattr(new, name) for name in names)


def test_what_is_raised_and_caught_is_one_class():
    code = "from zreward.errors import InputError\nimport zreward.client\nimport zreward\n"
    code += "assert InputError is zreward.InputError and zreward.client.RewardClient is zreward.RewardClient"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("zreward.nothing")


def test_a_module_that_became_a_package_still_has_its_names():
    from zreward.evaluation import evaluate, predict, prediction

    assert (evaluate, predict) == (prediction.evaluate, prediction.predict)


def test_tables_of_the_former_module_storage_are_still_found():
    from zreward.studio import storage
    from zreward.studio.storage import schema

    assert (storage.Label, storage.now) == (schema.Label, schema.now)
    assert (storage.Base, storage.Candidate) == (schema.StudioTable, schema.CandidatePicture)
    with pytest.raises(ImportError, match="nothing"):
        from zreward.studio.storage import nothing  # noqa: F401
