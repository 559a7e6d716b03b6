"""Names of models: every way in takes folders, hub names and registered prefixes, and loads to the device that is asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from zreward.common import registry
from zreward.common.errors import InputError
from zreward.models.names import find_model
from zreward.models.reward_model import RewardModel

ACME = """
from zreward.common.errors import InputError

def find(name):
    if name != "strict":
        raise InputError(f"acme:{name} is unknown; expected acme:strict")
    return "acme/strict-judge"
"""


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """The entry point of a package `acme`, as if it had been installed beside the others."""
    installed = registry.entry_points

    def register(value: str, prefix: str = "acme") -> None:
        (tmp_path / "acme_judges.py").write_text(ACME)
        monkeypatch.syspath_prepend(tmp_path)
        own = EntryPoint(prefix, value, registry.MODELS)
        monkeypatch.setattr(registry, "entry_points", lambda group: [*installed(group=group), own])
        registry._registered.cache_clear()

    yield register
    registry._registered.cache_clear()


def test_a_model_of_the_built_in_world_is_loaded_by_its_name():
    model = RewardModel.from_pretrained("world:small", device="cpu", dtype=torch.float64)
    assert model.rubric.name == "world"
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert next(model.parameters()).dtype is torch.float64


@pytest.mark.parametrize("name", ["models/judge", "me/judge", "/abs/judge", "C:\\judge", "runs/a:b/model", "judge"])
def test_other_names_stay_what_they_are(name):
    assert find_model(name) == name


def test_a_path_is_never_a_registered_name(tmp_path):
    assert find_model(Path("world:small")) == "world:small"
    with pytest.raises(InputError, match="no such checkpoint folder"):
        RewardModel.from_pretrained(Path("world:small"))


def test_another_package_can_offer_names(registered):
    registered("acme_judges:find")
    assert find_model("acme:strict") == "acme/strict-judge"
    with pytest.raises(InputError, match="expected acme:strict"):
        find_model("acme:kind")
    assert find_model("world:small").endswith("small")


def test_a_name_that_two_packages_offer_is_refused(registered):
    registered("acme_judges:find", prefix="world")
    with pytest.raises(
        InputError, match="world: two installed packages offer this name .acme_judges:find and zreward.world"
    ):
        find_model("world:small")


@pytest.mark.parametrize("value", ["acme_judges:missing", "not_installed_here:find"])
def test_a_broken_package_is_named(registered, value):
    registered(value)
    with pytest.raises(InputError, match=rf"acme: the name leads to {value}, which cannot be imported"):
        find_model("acme:strict")
    assert find_model("world:small").endswith("small")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("world:huge", "world:huge is not a model of the built-in world; expected one of world:large, world:small"),
        ("acme:strict", "no installed package offers models called acme:.*known prefixes: world:"),
        ("scratch:qwen3_5", "scratch: is for recipes only"),
    ],
)
def test_unknown_names_say_which_are_known(name, message):
    with pytest.raises(InputError, match=message):
        RewardModel.from_pretrained(name)


@pytest.mark.parametrize("device", ["banana", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_before_loading(device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
        RewardModel.from_pretrained("/nowhere", device=device)


def test_a_server_and_a_judge_load_to_the_device_they_are_given(monkeypatch):
    from zreward.generation.judges import load_judge
    from zreward.serving import server
    from zreward.serving.settings import Settings

    asked = []

    def load(name, **options):
        asked.append((name, options.get("device")))
        raise InputError("stop here")

    monkeypatch.setattr(RewardModel, "from_pretrained", load)
    for start in (lambda: server.serve("a", Settings(), "cpu"), lambda: load_judge("b", "cuda:1")):
        with pytest.raises(InputError, match="stop here"):
            start()
    assert asked == [("a", "cpu"), ("b", "cuda:1")]
