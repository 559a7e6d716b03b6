"""The recipes of real backbones take a step in two processes under the accelerate configurations that ship with them.

Tiny weights of the same architecture; precision, engine and sharding are the configuration's and the recipe's own.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from zreward.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
CONFIGURATIONS = {"multi_gpu": "ddp", "fsdp2": "fsdp2", "fsdp2-nodes": "fsdp2", "zero3": "zero3"}
MODELS = ("qwen3.5-27b-gdso", "qwen3.5-9b-risd")


def environment_of(configuration: Path) -> dict[str, str]:
    """What `accelerate launch --config_file` adds to the environment of each process."""
    words = ["--config_file", str(configuration), "--num_processes", "2", "--num_machines", "1", "-m", "zreward.cli"]
    before = dict(os.environ)
    try:
        options, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
        options.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        made = prepare_deepspeed_cmd_env(options)[1] if options.use_deepspeed else prepare_multi_gpu_env(options)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {name: value for name, value in made.items() if before.get(name) != value}


def test_a_deepspeed_configuration_that_contradicts_the_recipe_is_named(launcher, tmp_path):
    environment = environment_of(RECIPES / "accelerate" / "zero3.yaml")
    assert environment["ACCELERATE_GRADIENT_CLIPPING"] == "auto", "the recipe's optimizer.max_grad_norm counts"
    recipe = replace(
        load_recipe(RECIPES / f"{MODELS[1]}.yaml", ["optimizer.max_grad_norm=0.5"]), out=str(tmp_path / "out")
    )
    told = environment | {"ACCELERATE_GRADIENT_CLIPPING": "0.7"}
    for code, log in launcher.launch({"run": recipe}, "zero3", 2, tmp_path / "job", dry=True, environment=told):
        assert code == 1
        assert "InputError: the DeepSpeed configuration does not go with the recipe" in log
        assert "gradient_clipping=0.7 vs hf max_grad_norm=0.5" in log


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_recipes_of_real_backbones_take_a_step(launcher, tmp_path, configuration):
    environment = environment_of(RECIPES / "accelerate" / f"{configuration}.yaml")
    assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    recipes = {name: replace(load_recipe(RECIPES / f"{name}.yaml"), out=str(tmp_path / name)) for name in MODELS}
    job = tmp_path / "job"
    ended = launcher.launch(recipes, CONFIGURATIONS[configuration], 2, job, dry=True, environment=environment)
    for code, log in ended:
        assert code == 0, log[-4000:]
        assert log.count("in 2 processes: one step, loss ") == len(MODELS), log[-4000:]
    assert [path.name for path in tmp_path.iterdir()] == ["job"], "a dry run leaves nothing"
