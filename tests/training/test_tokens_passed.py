"""How many tokens pass the first decoder layer, with the rubric that is shipped and a picture of 256 tokens."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from tests.tiny import SPEC, WORDS, noise_pictures
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data import Pair, Record
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.scratch import build_model, learn_tokenizer
from zreward.prompting import PromptForms, messages
from zreward.rubric import Rubric
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.rollout_data import pair_items
from zreward.training.run import prepare

PROMPT = "a red circle left of a large blue square and two small green triangles above a cross"
SIDE = 128  # pixels: 32 x 32 patches, 256 tokens
TRACE = 64  # tokens


@pytest.fixture(scope="module")
def asked() -> RewardModel:
    """Of no depth, but with the shipped rubric and forms, whose words are one token each."""
    rubric, forms = Rubric.default(), PromptForms()
    turns = [
        turn for d in rubric.dimensions for how in (False, True) for turn in messages(PROMPT, d, rubric, forms, how)
    ]
    texts = [part["text"] for turn in turns for part in turn["content"] if part["type"] == "text"]
    words = sorted({word for text in texts for word in re.findall(r"\w+", text)})
    tokenizer = learn_tokenizer([*words, *WORDS, "system", "user", "assistant"])
    spec = replace(SPEC, hidden_size=16, linear_layers=0, layers=1, vision_layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model("qwen3_5", spec, tokenizer)
    model = RewardModel(network, tokenizer, rubric, forms, max_trace_tokens=TRACE).eval()
    assert model.layout.tokens(model.layout.grid(torch.zeros(3, SIDE, SIDE))) == 256
    model.score(noise_pictures(1, ((SIDE, SIDE),)), PROMPT)  # the self-check is over
    return model


@pytest.fixture
def passed(asked) -> list[tuple[int, int]]:
    """Rows and places, padding counted, of every pass from now on."""
    found: list[tuple[int, int]] = []
    layer = asked.backbone.base.model.language_model.layers[0]
    handle = layer.register_forward_pre_hook(lambda module, args: found.append(tuple(args[0].shape[:2])))
    yield found
    handle.remove()


def total(passes: list[tuple[int, int]]) -> int:
    return sum(rows * places for rows, places in passes)


def test_a_dimension_adds_at_most_twenty_tokens(asked, passed):
    picture, names = noise_pictures(1, ((SIDE, SIDE),)), asked.rubric.dimension_names
    counts = []
    for count in (1, 2, 4):
        del passed[:]
        asked.score(picture, PROMPT, names[:count])
        counts.append(total(passed))
    assert counts[2] - counts[0] <= 3 * 20
    assert counts[1] - counts[0] <= 2 * 20


def test_the_rubric_passes_once_for_many_calls(asked, passed):
    asked = RewardModel(asked.backbone.model, asked.tokenizer, asked.rubric, asked.forms, max_trace_tokens=4).eval()
    asked.backbone.shared_prefix.right = True
    pictures = noise_pictures(3, ((SIDE, SIDE), (64, 64)))
    asked.score(pictures[:1], PROMPT)
    rubric = passed[0]
    assert rubric[0] == 1 and rubric[1] > 400
    del passed[:]
    asked.score(pictures, [PROMPT, "a", "a red circle"], batch_size=2)
    asked.judge(pictures[:2], PROMPT)
    asked.requires_grad_(False)
    asked(torch.rand(2, 3, 64, 64, requires_grad=True), PROMPT)
    asked.requires_grad_(True)
    assert passed and max(places for _, places in passed) < rubric[1]


def test_an_update_of_gdso(asked, passed, tmp_path, monkeypatch):
    """One pair, eight traces of each side."""
    raw = {
        "method": "gdso",
        "out": str(tmp_path),
        "data": {"train": "none"},
        "model": {"name": "none"},
        "optimizer": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "warmup_steps": 0},
        "rollout": {"group_size": 8, "updates_per_rollout": 1},
        "trainer": {"save_strategy": "no"},
    }
    recipe = config_from_dict(Recipe, raw)
    one, other = noise_pictures(2, ((SIDE, SIDE),))
    records = [Record(PROMPT, one, {"realism": 4.0}), Record(PROMPT, other, {"realism": 2.0})]
    model = prepare(asked, recipe)
    words = [model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in WORDS]

    def reason(images, rows, temperature, seeds=None):
        return [Trace(tuple(words[(n + t) % len(words)] for t in range(TRACE)), True) for n in range(len(rows))]

    monkeypatch.setattr(model, "reason", reason)
    trainer = RolloutTrainer(
        model, recipe, RunDirectory(tmp_path), pair_items(records, [Pair(0, 1, "realism", 2.0)], model, 0.0)
    )
    assert trainer.shares
    del passed[:]
    trainer.train()
    assert total(passed) <= 2600
    assert sum(rows for rows, _ in passed) <= 1 + 2 + 16
