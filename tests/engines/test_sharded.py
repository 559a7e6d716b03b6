"""Where an engine shards the weights: heads, frozen weights, a teacher, and families of other blocks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.engines.conftest import assert_same_steps, recipe_of, zero3_environment
from tests.engines.ranks import steps_of
from tests.tiny import sharpen, tiny_model
from zreward.models.reward_model import RewardModel
from zreward.training.run import train


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_head_of_its_own_is_trained(launcher, folder, tmp_path, engine):
    """The other models of these tests tie it to the embeddings."""
    model = sharpen(tiny_model(), 4)
    base = model.backbone.base
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False
    base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().flip(0))
    model.save_pretrained(tmp_path / "untied")
    again = RewardModel.from_pretrained(tmp_path / "untied").backbone.base
    assert not torch.equal(again.lm_head.weight, again.get_input_embeddings().weight)
    more = {"model": {"name": str(tmp_path / "untied")}}
    alone, together = (
        {method: recipe_of(folder, method, tmp_path / f"{method}-{n}", n, 3, **more) for method in ("sft", "gdso")}
        for n in (1, 2)
    )
    launcher.train(together, engine, 2, tmp_path / "job")
    for method, recipe in alone.items():
        train(recipe)
        assert_same_steps(steps_of(together[method]), steps_of(recipe), 1e-4)


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_run_with_frozen_weights_is_gone_on_with(launcher, folder, tmp_path, engine):
    more = {"model": {"lora_rank": 2}, "save_every": 2, "keep_checkpoints": 2}
    recipe = recipe_of(folder, "sft", tmp_path / "run", 2, 4, **more)
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job")
    expected = steps_of(recipe)
    run = Path(recipe.out)
    shutil.rmtree(run / "model")
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job", resume=True)  # from the last step: nothing is trained
    assert (run / "model" / "adapter_model.safetensors").exists() and steps_of(recipe) == expected
    for late in (run / "model", run / "checkpoints" / "checkpoint-4"):
        shutil.rmtree(late)
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job", resume=True)
    assert_same_steps(steps_of(recipe), expected, 1e-4)


@pytest.mark.parametrize(
    "engine", ["ddp", "fsdp2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero2", "zero3"))]
)
def test_a_teacher_is_split_as_the_student_is(launcher, folder, tmp_path, engine):
    recipes = [recipe_of(folder, "opd", tmp_path / f"{ranks}", ranks, 2) for ranks in (1, 2)]
    environment = zero3_environment(tmp_path / "zero") if engine == "zero3" else {}
    ended = launcher.launch({"run": recipes[1]}, engine, 2, tmp_path / "job", measure=True, environment=environment)
    total = sum(weight.numel() for weight in RewardModel.from_pretrained(folder / "teacher").parameters())
    for code, log in ended:
        assert code == 0, log[-3000:]
        (kept,) = re.findall(r"of a frozen network (\d+) weights are kept$", log, re.MULTILINE)
        part = int(kept) / total
        assert part == 1 if engine in ("ddp", "zero2") else part == pytest.approx(0.5, abs=0.05)
    train(recipes[0])
    assert_same_steps(steps_of(recipes[1]), steps_of(recipes[0]), 1e-4)


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_model_without_one_of_its_familys_blocks_is_split(launcher, folder, tmp_path, engine):
    """Transformers names blocks of LLaVA's that only other vision towers have."""
    sharpen(tiny_model("llava", trace_tokens=5), 4).save_pretrained(tmp_path / "llava")
    more = {"model": {"name": str(tmp_path / "llava")}}
    for method in ("sft", "gdso"):
        recipes = [recipe_of(folder, method, tmp_path / f"{method}-{n}", n, 3, **more) for n in (1, 2)]
        launcher.train({method: recipes[1]}, engine, 2, tmp_path / "job")
        train(recipes[0])
        assert_same_steps(steps_of(recipes[1]), steps_of(recipes[0]), 1e-4)


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_processes_with_unequally_many_chunks_of_logits_train_on(launcher, folder, tmp_path, engine):
    """Three tokens a chunk, and three pairs: one process has twice as many chunks as the other."""
    vocabulary = RewardModel.from_pretrained(folder / "base").backbone.base.config.get_text_config().vocab_size
    more = {"data": {"train_records": 6, "dimensions": ["realism"]}}
    recipes = [recipe_of(folder, "gdso", tmp_path / f"{ranks}", ranks, 3, **more) for ranks in (1, 2)]
    environment = zero3_environment(tmp_path / "zero") if engine == "zero3" else {}
    launcher.train(
        {"run": recipes[1]}, engine, 2, tmp_path / "job", head_bytes=12 * vocabulary, environment=environment
    )
    train(recipes[0])
    assert_same_steps(steps_of(recipes[1]), steps_of(recipes[0]), 1e-4)
