"""Shared prefixes against separate passes: the same distributions and pixel gradients, whatever the lengths and sizes."""

from __future__ import annotations

import pytest
import torch

from zreward.models import reasoning, reward_model, shared_prefix
from zreward.models.pixels import to_pixels
from zreward.models.rows import Row

PROMPTS = ["a red circle", "a small blue cross left of a large green square", "a red circle and a blue circle"]


@pytest.fixture
def separately(monkeypatch):
    """Run a call with every question in a row of its own."""

    def run(call):
        with monkeypatch.context() as patch:
            for module in (reward_model, reasoning):
                patch.setattr(module, "can_share", lambda backbone: False)
            return call()

    return run


def test_distributions_are_those_of_separate_passes(family_model, pictures, separately):
    def call():
        return family_model.score(pictures[:3], PROMPTS).probs

    together = call()
    assert torch.allclose(together, separately(call), atol=1e-5)
    assert together.std(0).max() > 1e-3  # the model looks at its input


def test_pixel_gradients_are_those_of_separate_passes(family_model, separately):
    weights = torch.arange(4.0) + 1  # every dimension counts differently
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def gradient():
        return torch.autograd.grad((family_model(pixels, PROMPTS).mean @ weights).sum(), pixels)[0]

    apart, together = separately(gradient), gradient()
    assert apart.abs().max() > 0
    assert (apart - together).norm() <= 1e-4 * apart.norm()


def test_a_judgement_is_that_of_separate_passes(family_model, pictures, separately):
    """Greedy, so that the same words are read; prompts and pictures of unequal sizes, several traces of a question."""

    def call():
        return family_model.judge(pictures[:3], PROMPTS, traces=2, temperature=0)

    for together, apart in zip(call(), separately(call), strict=True):
        assert together.traces == apart.traces
        assert torch.allclose(together.trace_distribution, apart.trace_distribution, atol=1e-5)
        assert torch.equal(together.tokens, apart.tokens)


def test_traces_of_a_group_are_those_of_separate_rows(family_model, pictures, separately):
    images = [family_model.open(picture) for picture in pictures[:3]]
    names = family_model.rubric.dimension_names
    rows = [Row(i, prompt, names[i]) for i, prompt in enumerate(PROMPTS) for _ in range(4)]

    def call():
        torch.manual_seed(0)
        return family_model.reason(images, rows)

    together = call()
    assert together == separately(call)
    assert len({trace.ids for trace in together}) > 3


def test_a_judge_encodes_image_and_prompt_once(model, pictures, monkeypatch):
    seen = []
    original = model.backbone.vision_tower.forward

    def counted(*args, **options):
        seen.append(len(options["grid_thw"]))
        return original(*args, **options)

    monkeypatch.setattr(model.backbone.vision_tower, "forward", counted)
    model.judge(pictures[:2], "a red circle", traces=3)
    assert seen == [2]


def test_qwen_models_share_and_others_do_not(family_model):
    kind = type(family_model.backbone.base).__name__
    assert shared_prefix.can_share(family_model.backbone) == kind.startswith("Qwen")


def test_every_image_and_prompt_is_encoded_once(model, pictures, monkeypatch):
    lengths = []
    original = model.backbone.base.model.language_model.forward

    def counted(*args, **kwargs):
        lengths.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return original(*args, **kwargs)

    monkeypatch.setattr(model.backbone.base.model.language_model, "forward", counted)
    model.score(pictures[:2], "a red circle")
    (prefix_rows, prefix_length), (suffix_rows, suffix_length) = lengths
    assert (prefix_rows, suffix_rows) == (2, 8)
    assert suffix_length < prefix_length


def test_a_question_before_the_image_cannot_share(model, pictures):
    image = model.fit(to_pixels(pictures[0]))
    inputs = model.collate([image], [Row(0, "a red circle", name) for name in model.rubric.dimension_names])
    token = int(inputs.input_ids[0, -1])  # as if the image came last
    assert shared_prefix.split_questions(inputs, 4, token, 0) is None
