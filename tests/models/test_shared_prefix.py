"""Shared prefixes against separate passes: the same distributions and pixel gradients, whatever the lengths and sizes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from zreward.common.errors import InputError
from zreward.models import reasoning, reward_model, shared_prefix
from zreward.models.pixels import to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
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


def test_traces_that_rows_have_already_are_ignored(family_model, pictures, separately):
    images = [family_model.open(picture) for picture in pictures[:2]]
    old = Trace((family_model.encoder.stop_ids[0] + 1,), truncated=True)
    rows = [Row(i, PROMPTS[i], "realism") for i in (0, 1) for _ in range(2)]
    expected = family_model.reason(images, rows, temperature=0)
    having = [replace(row, trace=old, explanation=(3, old)) for row in rows]
    assert family_model.reason(images, having, temperature=0) == expected
    assert separately(lambda: family_model.reason(images, having, temperature=0)) == expected


@pytest.mark.parametrize(("times", "encodings"), [(1, 0), (2, 1), (3, 1)])
def test_a_group_goes_on_from_one_encoding_and_single_rows_do_without(model, pictures, monkeypatch, times, encodings):
    encoded = []
    monkeypatch.setattr(reasoning, "encode", lambda *args: encoded.append(args) or shared_prefix.encode(*args))
    rows = [Row(i, PROMPTS[i], "realism") for i in (0, 1) for _ in range(times)]
    assert len(model.reason([model.open(picture) for picture in pictures[:2]], rows)) == 2 * times
    assert len(encoded) == encodings and all(len(prefix) == 2 for _, prefix in encoded)


def test_rows_repeated_unequally_often_are_not_shared(model, pictures):
    images = [model.open(picture) for picture in pictures[:2]]
    first, second = (Row(i, PROMPTS[i], "realism") for i in (0, 1))
    traces = model.reason(images, [first, first, second, second, second], temperature=0)
    assert traces == [traces[0]] * 2 + [traces[2]] * 3
    assert traces[0] == model.reason(images, [first], temperature=0)[0]


def test_questions_of_unequal_lengths_are_judged_one_dimension_after_the_other(model, pictures, monkeypatch):
    """A form that repeats the prompt in the question: no common end for generation, so each prefix holds it."""
    forms = replace(model.forms, reasoning=model.forms.reasoning + " {prompt}")
    asking = RewardModel(model.backbone.model, model.tokenizer, model.rubric, forms, max_trace_tokens=8).eval()
    encoded, seen, look = [], [], asking.backbone.vision_tower.forward
    monkeypatch.setattr(reasoning, "encode", lambda *args: encoded.append(1) or shared_prefix.encode(*args))
    with monkeypatch.context() as patch:
        patch.setattr(asking.backbone.vision_tower, "forward", lambda *a, **k: seen.append(1) or look(*a, **k))
        together = asking.judge(pictures[:2], PROMPTS[:2], traces=2, temperature=0)
    assert (
        len(encoded) == len(seen) == len(asking.rubric.dimension_names)
    )  # what is sampled is read off the same prefix
    monkeypatch.setattr(reasoning, "can_share", lambda backbone: False)
    for one, other in zip(together, asking.judge(pictures[:2], PROMPTS[:2], traces=2, temperature=0), strict=True):
        assert one.traces == other.traces
        assert torch.allclose(one.trace_distribution, other.trace_distribution, atol=1e-5)


def test_questions_of_equal_lengths_and_other_words_belong_to_their_items(model, pictures, separately):
    """The form repeats the prompt in the question, and both prompts are three tokens."""
    forms = replace(model.forms, reasoning=model.forms.reasoning + " {prompt}")
    asking = RewardModel(model.backbone.model, model.tokenizer, model.rubric, forms, max_trace_tokens=8).eval()

    def call():
        return asking.judge(pictures[:2], ["a red circle", "two blue square"], traces=2, temperature=0)

    for together, apart in zip(call(), separately(call), strict=True):
        assert together.traces == apart.traces
        assert torch.allclose(together.trace_distribution, apart.trace_distribution, atol=1e-5)


def test_an_adapted_model_judges_as_in_separate_passes(model, pictures, separately):
    network = copy.deepcopy(model.backbone.model)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "in_proj_qkv", "down_proj"], init_lora_weights=False)
    adapted = RewardModel(get_peft_model(network, config), model.tokenizer, model.rubric, model.forms).eval()
    adapted.max_trace_tokens = 8

    def call():
        return adapted.judge(pictures[:2], PROMPTS[:2], traces=2, temperature=0)

    for together, apart in zip(call(), separately(call), strict=True):
        assert together.traces == apart.traces
        assert torch.allclose(together.trace_distribution, apart.trace_distribution, atol=1e-5)


def test_gradient_checkpointing_in_train_mode_is_refused_and_reasoning_does_without(model, pictures):
    images, row = [model.open(pictures[0])], Row(0, PROMPTS[0], "realism")
    expected = model.reason(images, [row, row], temperature=0)
    model.train()
    model.backbone.gradient_checkpointing_enable()
    try:
        assert model.reason(images, [row, row], temperature=0) == expected
        assert model.training
        with pytest.raises(InputError, match=r"gradient checkpointing in train mode forbids it; call eval\(\) first"):
            model(torch.rand(1, 3, 32, 32), PROMPTS[0])
    finally:
        model.backbone.gradient_checkpointing_disable()
        model.eval()


@torch.no_grad()
def test_an_encoded_prefix_keeps_states_and_not_what_they_came_from(model, pictures):
    inputs = model.collate([model.open(pictures[0])], [Row(0, PROMPTS[1], "realism")])
    (questions,) = [shared_prefix.split_questions(inputs, 1, model.encoder.image_token_id, 0)]
    cache = shared_prefix.encode(model.backbone, questions.prefix).cache
    states = [state for layer in cache.layers if hasattr(layer, "conv_states") for state in layer.conv_states.values()]
    assert states
    for state in states:
        assert state.untyped_storage().nbytes() == state.nbytes


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
