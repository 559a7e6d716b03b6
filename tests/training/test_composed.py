"""Training of a model of pretrained parts: the projector first, then an adapter; the tower sees every picture once."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from tests.models.parts import write_language, write_tower
from tests.tiny import tiny_model, tiny_rubric
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.models.reward_model import RewardModel
from zreward.training.run import load_model, train

PROJECTOR = "multi_modal_projector.modules_to_save"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    rubric = folder / "rubric.yaml"
    rubric.write_text(yaml.safe_dump(tiny_rubric().to_dict()))
    return str(write_tower("clip", folder / "clip")), str(write_language(folder / "language")), str(rubric)


@pytest.fixture
def composed_recipe(make_recipe, parts, tmp_path):
    """A run of a composed model: its projector alone, for two of four steps."""

    def make(**changes):
        options = {
            "steps": 4,
            "model__name": "compose",
            "model__compose": {"vision": parts[0], "language": parts[1], "class_token": True},
            "model__rubric": parts[2],
            "model__image_pool": 2,
            "model__image_cache": str(tmp_path / "cache"),
            "model__lora_rank": 2,
            "model__freeze_vision": True,
            "model__train_projector": True,
            "optimizer__projector_steps": 2,
            "optimizer__projector_learning_rate": 0.01,
            "save_every": 2,
            "keep_checkpoints": 9,
            "data__group_dimensions": True,
        }
        return make_recipe("sft", **options | changes)

    return make


def losses_of(out) -> list[float]:
    return [row["loss"] for row in read_metrics(out) if "loss" in row]


def weights_of(folder) -> dict[str, torch.Tensor]:
    return dict(RewardModel.from_pretrained(folder).backbone.model.state_dict())


def test_the_projector_is_trained_alone_then_the_adapter_too(composed_recipe, tmp_path):
    recipe = composed_recipe()
    final = train(recipe)
    start, middle, end = map(weights_of, (tmp_path / "sft/base", tmp_path / "sft/checkpoints/checkpoint-2", final))
    trained = {name for name in end if not torch.equal(middle[name], end[name])}
    assert any(".lora_A" in name for name in trained) and any(PROJECTOR in name for name in trained)
    assert all(PROJECTOR in name or ".lora_" in name for name in trained)
    lora_b = [weight for name, weight in middle.items() if ".lora_B" in name]
    assert lora_b and all(not weight.any() for weight in lora_b)  # as they began
    name = "multi_modal_projector.linear_1.weight"
    assert not torch.equal(
        start[f"model.{name}"], middle[f"base_model.model.model.{PROJECTOR}.default.linear_1.weight"]
    )
    frozen = [name for name in start if "projector" not in name]
    for name in frozen:
        inner = f"base_model.model.{name}"
        kept = end.get(inner, end.get(inner.replace(".weight", ".base_layer.weight")))
        assert torch.equal(kept, start[name]), name


def test_the_losses_fall_and_a_resumed_run_repeats_them(composed_recipe, tmp_path):
    import shutil

    recipe = composed_recipe(optimizer__projector_learning_rate=0.003)
    train(recipe)
    whole = losses_of(recipe.out)
    for later in ("checkpoints/checkpoint-4", "model"):
        shutil.rmtree(tmp_path / "sft" / later)
    train(recipe, resume=True)
    assert losses_of(recipe.out) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("augment", [False, True])
def test_the_tower_sees_every_picture_once(composed_recipe, monkeypatch, augment):
    from transformers import CLIPVisionModel

    seen, whole = [], CLIPVisionModel.forward
    recipe = composed_recipe(steps=14, data__augment=augment, save_every=14)
    load_model(recipe)  # composes it
    monkeypatch.setattr(CLIPVisionModel, "forward", lambda self, x, **o: seen.append(len(x)) or whole(self, x, **o))
    train(recipe)
    blanks = 3  # loading counts an image's tokens, pools and counts again, and tries the model out
    assert len(seen) == (24 if augment else 12) + blanks


def test_with_and_without_the_cache_the_losses_are_the_same(composed_recipe, tmp_path):
    def losses(out, **changes):
        recipe = composed_recipe(out=str(tmp_path / out), **changes)
        train(recipe)
        return losses_of(recipe.out)

    assert losses("with") == pytest.approx(losses("without", model__image_cache=None), abs=1e-5)


def test_mirrored_features_are_drawn_half_of_the_time(composed_recipe, monkeypatch):
    from zreward.training import direct

    drawn, whole = [], direct.one_of
    monkeypatch.setattr(direct, "one_of", lambda views: drawn.append((views, whole(views))) or drawn[-1][1])
    train(composed_recipe(steps=20, data__augment=True, save_every=20))
    second = [torch.equal(one, views[1]) for views, one in drawn]
    assert all(len(views) == 2 and not torch.equal(*views) for views, _ in drawn)
    assert 8 < sum(second) < len(second) - 8 and len(second) == 40


def test_learning_rates_of_projector_and_adapter(composed_recipe):
    """By hand: cosine over 4 steps, and for the adapter zero, zero, then a cosine over the other 2."""
    from zreward.common.runs import RunDirectory
    from zreward.training.run import build_trainer

    recipe = composed_recipe(optimizer__weight_decay=0.1)
    from pathlib import Path

    trainer = build_trainer(recipe, RunDirectory(Path(recipe.out)), load_model(recipe))
    trainer.create_optimizer_and_scheduler(4)
    rates: dict[bool, list[float]] = {True: [], False: []}
    own = {id(p) for n, p in trainer.model.named_parameters() if PROJECTOR in n}
    for _ in range(4):
        for group in trainer.optimizer.param_groups:
            (kind,) = {id(weight) in own for weight in group["params"]}
            if not group["weight_decay"]:
                continue
            rates[kind].append(group["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[True] == pytest.approx([0.01 * f for f in (1, 0.853553, 0.5, 0.146447)], rel=1e-5)
    assert rates[False] == pytest.approx([1e-3 * f for f in (0, 0, 1, 0.5)], rel=1e-5)
    inside = {id(weight) for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert inside == {id(weight) for weight in trainer.model.parameters() if weight.requires_grad}


def test_a_folder_that_was_composed_before_is_trained_as_well(composed_recipe, tmp_path):
    train(composed_recipe())
    base = str(tmp_path / "sft" / "base")
    recipe = composed_recipe(out=str(tmp_path / "again"), model__name=base, model__compose={}, model__image_pool=None)
    train(recipe)
    first, second = (losses_of(tmp_path / out) for out in ("sft", "again"))
    assert second == pytest.approx(first, abs=1e-6)
    assert not (tmp_path / "again" / "base").exists()


def test_a_run_that_ended_while_composing_begins_again(composed_recipe):
    recipe = composed_recipe()
    load_model(recipe)
    train(recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__lora_rank": None}, "model.train_projector is set, but model.lora_rank is not"),
        ({"model__train_projector": False}, "optimizer.projector_learning_rate goes with model.train_projector"),
        ({"optimizer__projector_steps": 4}, "projector_steps is 4, expected fewer than optimizer.steps"),
        ({"model__freeze_vision": False}, "this one is trained; set model.freeze_vision"),
        ({"data__workers": 1}, "model.image_cache lets the training process run the vision tower"),
        ({"model__image_pool": 5}, "image_pool is 5, expected 1 to 4"),
        ({"model__compose": {"vision": "nowhere"}}, "language None"),
    ],
)
def test_options_that_do_not_fit_are_refused(composed_recipe, changes, message):
    with pytest.raises(InputError, match=message):
        train(composed_recipe(**changes))


def test_image_options_of_other_models_are_refused(make_recipe, tmp_path):
    tiny_model("qwen3_vl").save_pretrained(tmp_path / "qwen")
    for change in ({"image_pool": 2}, {"image_cache": str(tmp_path / "cache"), "freeze_vision": True}):
        changes = {f"model__{key}": value for key, value in change.items()}
        with pytest.raises(InputError, match="expected a LLaVA-type model"):
            train(make_recipe("sft", model__name=str(tmp_path / "qwen"), **changes))


def test_the_checkpoint_says_what_it_needs(composed_recipe):
    folder = train(composed_recipe())
    stored = json.loads((folder / "zreward.json").read_text())
    assert stored["image_pool"] == 2 and stored["base"]["name"].endswith("base")
