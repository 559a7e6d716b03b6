"""Pretraining the world's base models: their opinion is what the docstring says, and the command makes a loadable model."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from zreward.models.reward_model import RewardModel
from zreward.world.base_models import CHECKLIST_FORMS, SIZES, WEIGHTS, load_base, make_base
from zreward.world.grammar import sample_prompt
from zreward.world.pretrain import CONFIGS, PretrainConfig, Stage, opinion, pretrain
from zreward.world.scenes import Scene, sample_scene
from zreward.world.sight import CELL_CLASSES, PICTURE_CLASSES, sight_labels

TINY = PretrainConfig(
    "small",
    sight_steps=2,
    first_layers=4,
    stages=(Stage(3, scenes=70), Stage(2, fresh=True, layers=6, checklist=True, relations=True, places=True)),
    images_per_step=4,
)


def test_after_a_trace_every_defect_of_the_dimension_costs_the_same():
    prompt = sample_prompt(random.Random(0))
    assert opinion(replace(Scene(prompt, ()), noise=2), "realism", 0.9, halo=0) == pytest.approx(4.1)
    both = Scene(prompt, (), noise=1, blocks=1)
    assert opinion(both, "realism", 0.9, halo=0) == pytest.approx(5 - 0.9 * len(both.defects("realism")))


def test_a_first_impression_is_coloured_by_the_other_dimensions():
    rng = random.Random(1)
    for scene in [sample_scene(sample_prompt(rng), rng) for _ in range(50)]:
        own = len(scene.defects("realism"))
        others = [len(scene.defects(name)) for name in ("alignment", "aesthetics", "plausibility")]
        expected = 5 - 0.5 * (own / 2 + sum(others) / 3 / 2)
        assert opinion(scene, "realism", 0.5, halo=0.5) == pytest.approx(max(1, expected))


def test_sight_labels_have_the_classes_of_the_heads():
    rng = random.Random(2)
    for scene in [sample_scene(sample_prompt(rng), rng) for _ in range(50)]:
        labels = sight_labels(scene)
        for name, classes in (CELL_CLASSES | PICTURE_CLASSES).items():
            known = labels[name][labels[name] != -100]
            assert ((known >= 0) & (known < classes)).all()


def test_pretraining_writes_a_model_that_loads_and_a_log_that_repeats(tmp_path):
    torch.manual_seed(7)
    model = pretrain(TINY, tmp_path / "base")
    loaded = RewardModel.from_pretrained(tmp_path / "base")
    untrained = make_base("small", seed=0)
    weights, first = loaded.state_dict(), untrained.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    changed = [name for name in weights if not torch.equal(weights[name], first[name])]
    assert any("visual" in name for name in changed)
    assert any("language_model" in name for name in changed)
    pretrain(TINY, tmp_path / "again")
    log, again = (json.loads((tmp_path / name / "pretraining.json").read_text()) for name in ("base", "again"))
    assert log == again
    assert log["config"]["size"] == "small"


@pytest.mark.parametrize("size", SIZES)
def test_shipped_weights_say_how_they_were_made_and_speak_the_tokenizer_of_the_code(size):
    """`zreward world pretrain` must make what is shipped: same configuration, same vocabulary, same shapes."""
    shipped, code = load_base(size), make_base(size)
    made = json.loads((WEIGHTS / size / "pretraining.json").read_text())["config"]
    assert PretrainConfig.from_dict(made) == CONFIGS[size]
    assert shipped.tokenizer.get_vocab() == code.tokenizer.get_vocab()
    assert shipped.rubric.fingerprint() == code.rubric.fingerprint()
    assert shipped.forms == CHECKLIST_FORMS
    assert {n: v.shape for n, v in shipped.state_dict().items()} == {n: v.shape for n, v in code.state_dict().items()}


def test_shipped_weights_stay_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 8e6
