"""The shipped sizes against the published numbers of parameters, and what is counted as trained or packed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.planning.conftest import RECIPES
from zreward.common.errors import InputError
from zreward.planning.networks import network_of
from zreward.planning.plan import make_plan
from zreward.planning.shapes import LINEAR_TEXT, TEXT, VISION, shape_of
from zreward.training.recipe import load_recipe


@pytest.mark.parametrize(
    ("name", "published", "linear", "attention"),
    [("qwen3.5-27b-gdso", 27_356_728_560, 48, 16), ("qwen3.5-9b-risd", 9_409_813_744, 24, 8)],
)
def test_the_shipped_sizes_make_the_published_number_of_parameters(name, published, linear, attention):
    shape = shape_of(network_of(load_recipe(RECIPES / f"{name}.yaml")))
    assert shape.parameters == published
    assert [len(shape.of(kind)) for kind in (LINEAR_TEXT, TEXT, VISION)] == [linear, attention, 27]
    assert shape.patch == 32 and shape.merge == 4


def test_an_adapter_is_trained_alone_and_not_among_the_models_own_parameters():
    recipe = load_recipe(RECIPES / "qwen3.5-9b-risd.yaml")
    shape = shape_of(network_of(recipe))
    # Rank 64 on every linear layer but the output's: 64 (inputs + outputs) each.
    full = shape_of(network_of(_without_adapter(recipe)))
    assert full.trainable == full.parameters == full.numbers
    assert shape.numbers - shape.parameters == shape.trainable
    text, linear, vision = (4096, 12288), 8192, (1152, 4304)
    mlp = 3 * (text[0] + text[1])
    attention = (4096 + 8192) + 2 * (4096 + 1024) + (4096 + 4096)
    gated = (4096 + linear) + (4096 + 4096) + 2 * (4096 + 32) + (4096 + 4096)
    tower = (1152 + 3 * 1152) + (1152 + 1152) + 2 * sum(vision)
    merger = (4608 + 4608) + (4608 + 4096)
    assert shape.trainable == 64 * (32 * mlp + 8 * attention + 24 * gated + 27 * tower + merger)
    frozen = shape_of(network_of(replace(recipe, model=replace(recipe.model, freeze_vision=True))))
    assert shape.trainable - frozen.trainable == 64 * (27 * tower + merger)
    assert not frozen.trains_vision and shape.trains_vision


def _without_adapter(recipe):
    return replace(recipe, model=replace(recipe.model, lora_rank=None, lora_alpha=32))


@pytest.mark.parametrize(("quantization", "a_number"), [("4bit", 0.5 + 4 / 64), ("8bit", 1.0)])
def test_quantisation_packs_linear_layers_but_not_the_output_layer(quantization, a_number):
    recipe = load_recipe(RECIPES / "qwen3.5-9b-risd.yaml")
    network = network_of(recipe)
    plain, packed = shape_of(network), shape_of(network, quantization)
    outputs = 4 * plain.hidden * 8 if quantization == "8bit" else 0  # scales of rows: far below a percent
    linear = plain.frozen_bytes - packed.frozen_bytes
    in_blocks = sum(block.multiplied - block.multiplied_trainable for block in plain.blocks)
    merger = 4608 * 4608 + 4608 * 4096
    assert linear == pytest.approx((2 - a_number) * (in_blocks + merger) - outputs, rel=0.005)
    assert packed.frozen_bytes > 2 * 2 * 248_320 * 4096  # embeddings and output layer stay in bfloat16


def test_quantised_weights_are_not_trained(recipe_of, machines_of):
    with pytest.raises(InputError, match="cannot be trained; set model.lora_rank"):
        make_plan(recipe_of(model__quantization="4bit"), machines_of())
    with pytest.raises(InputError, match="fsdp does not shard .* use ddp or zero2"):
        make_plan(recipe_of(model__quantization="4bit", model__lora_rank=4), machines_of("fsdp", 2))


def test_a_configuration_by_hand(folder, recipe_of, tmp_path):
    file = folder / "model" / "config.json"
    recipe = recipe_of(model__name="nobody/none")
    assert shape_of(network_of(recipe, file)).parameters == shape_of(network_of(recipe_of())).parameters
    content = json.loads(file.read_text())
    other = tmp_path / "config.json"
    other.write_text(json.dumps({**content, "auto_map": {"AutoModel": "code.Model"}}))
    with pytest.raises(InputError, match="names code of its own"):
        network_of(recipe, other)
    other.write_text(json.dumps({key: value for key, value in content.items() if key != "model_type"}))
    with pytest.raises(InputError, match="has no model_type"):
        network_of(recipe, other)


def test_a_hub_name_without_the_hub(recipe_of, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match="nobody/none.*A plan needs the configuration only: give it with --config FILE"
    ):
        network_of(recipe_of(model__name="nobody/none"))


def test_a_model_from_scratch_needs_no_records(recipe_of):
    recipe = recipe_of(model__name="scratch:qwen3_5", data__train="none.jsonl")
    shape = shape_of(network_of(recipe))
    assert shape.trainable == shape.parameters > recipe.model.scratch.parameters
