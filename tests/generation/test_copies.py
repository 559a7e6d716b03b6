"""What lives at the same time: the final comparison loads everything anew, so nothing of before may be left."""

from __future__ import annotations

import weakref

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.generation.conftest import stable_diffusion
from tests.generation.gradients import make_recipe, write_inputs
from tests.plain_model import small_model
from zreward.common.errors import InputError
from zreward.generation import final
from zreward.generation import optimize as module
from zreward.generation.checks import check_inputs
from zreward.generation.judges import load_student
from zreward.generation.optimize import optimize
from zreward.models.pixels import ResolutionPolicy


@pytest.fixture
def folder(tmp_path):
    write_inputs(tmp_path, small_model(0, patch_size=4).float())
    stable_diffusion().save_pretrained(tmp_path / "generator")
    return tmp_path


def test_nothing_of_the_training_is_left_when_the_comparison_begins(folder, monkeypatch):
    recipe = make_recipe(folder, generator__name=str(folder / "generator"), guards__prompts=1, optimizer__steps=1)
    living, build = [], module._Optimization.__init__

    def noted(self, *arguments) -> None:
        build(self, *arguments)
        parts = (self, self.student, self.adaptation, self.pipeline.unet, self.pipeline.vae)
        living.extend(weakref.ref(part) for part in parts)

    monkeypatch.setattr(module._Optimization, "__init__", noted)
    found = []
    monkeypatch.setattr(module, "measure_final", lambda *_: found.extend(type(one()) for one in living if one()))
    optimize(recipe)
    assert len(living) == 5 and found == []


def test_the_comparison_holds_one_model_at_a_time(folder, monkeypatch):
    recipe = make_recipe(
        folder, generator__name=str(folder / "generator"), final__judge="oracle", final__prompts=1, guards__prompts=1
    )
    living, most = [], []

    def counted(load):
        def loaded(*arguments, **options):
            most.append(sum(one() is not None for one in living))
            model = load(*arguments, **options)
            living.append(weakref.ref(model.unet if hasattr(model, "unet") else model))
            return model

        return loaded

    class Enough(Exception):
        pass

    def judge(*_):
        most.append(sum(one() is not None for one in living))
        raise Enough

    monkeypatch.setattr(final, "load_pipeline", counted(final.load_pipeline))
    monkeypatch.setattr(final, "load_optimized", counted(lambda *_: stable_diffusion()))
    monkeypatch.setattr(final, "load_student", counted(final.load_student))
    monkeypatch.setattr(final, "load_judge", judge)
    with pytest.raises(Enough):
        final.measure_final(recipe, ["a red circle"], "cpu")
    assert most == [0, 0, 0, 0]  # as each of the generators, the student and the judge is loaded


def test_the_students_format_and_resolution_are_the_recipes(folder):
    plain = load_student(make_recipe(folder), "cpu")
    assert next(plain.parameters()).dtype is torch.float32 and not plain.resolution.longest_side
    recipe = make_recipe(folder, reward__dtype="bfloat16", reward__longest_side=24)
    student = load_student(recipe, "cpu")
    assert next(student.parameters()).dtype is torch.bfloat16 and student.resolution == ResolutionPolicy(24, None)
    assert load_student(make_recipe(folder, reward__pixel_budget=400), "cpu").resolution == ResolutionPolicy(None, 400)
    with pytest.raises(InputError, match="reward.dtype is 'half'; expected one of"):
        make_recipe(folder, reward__dtype="half")
    with pytest.raises(InputError, match="longest_side"):
        check_inputs(make_recipe(folder, reward__longest_side=24, reward__pixel_budget=400))


def test_all_weights_of_a_bfloat16_generator_are_trained_and_looked_at(folder):
    """Trained weights are float32, the parts around them bfloat16: steps and evaluations compute in bfloat16."""
    AcceleratorState._reset_state(reset_partial_state=True)
    half = {"generator__name": str(folder / "generator"), "generator__dtype": "bfloat16", "guards__prompts": 1}
    recipe = make_recipe(
        folder, mixed_precision="bf16", optimizer__steps=1, reward__aggregate={"kind": "beats"}, **half
    )
    try:
        assert optimize(recipe).message == "ran all 1 steps"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="kept in float32; set mixed_precision to bf16, or generator.lora_rank"):
        make_recipe(folder, **half)
    make_recipe(folder, generator__lora_rank=2, **half)
