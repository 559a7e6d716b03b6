"""Judging and sampling through shared prefixes against separate rows: the same traces and scores, each prefix encoded once."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from zreward.models.caches import _States
from zreward.models.layouts import takes_grids
from zreward.models.passes import Images
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.models.shared_prefix import SharedPrefix, can_share, generation_inputs

pytestmark = pytest.mark.usefixtures("short_prefixes_stay_apart")

PROMPTS = ["a red circle", "a small blue cross left of a large green square", "a red circle and a blue circle"]


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
    assert (apart - together).norm() <= 1e-5 * apart.norm()


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
    rows = [Row((i,), prompt, names[i]) for i, prompt in enumerate(PROMPTS) for _ in range(4)]

    def call():
        torch.manual_seed(0)
        return family_model.reason(images, rows)

    together = call()
    assert together == separately(call)
    assert len({trace.ids for trace in together}) > 3


def test_traces_that_rows_have_already_are_ignored(family_model, pictures, separately):
    images = [family_model.open(picture) for picture in pictures[:2]]
    old = Trace((family_model.encoder.stop_ids[0] + 1,), truncated=True)
    rows = [Row((i,), PROMPTS[i], "realism") for i in (0, 1) for _ in range(2)]
    expected = family_model.reason(images, rows, temperature=0)
    having = [replace(row, trace=old, explanation=(3, old)) for row in rows]
    assert family_model.reason(images, having, temperature=0) == expected
    assert separately(lambda: family_model.reason(images, having, temperature=0)) == expected


@pytest.fixture
def encoded(model, pictures, monkeypatch) -> list[int]:
    """How many prefixes each encoding from now on holds."""
    model.score(pictures[:1], PROMPTS[0])  # the self-check is over
    found: list[int] = []
    encode = SharedPrefix.encode

    def counted(shared, backbone, cut, images):
        found.append(len(cut.prefix.ids))
        return encode(shared, backbone, cut, images)

    monkeypatch.setattr(SharedPrefix, "encode", counted)
    return found


@pytest.mark.parametrize(("times", "encodings"), [(1, []), (2, [2]), (3, [2])])
def test_a_group_goes_on_from_one_encoding_and_single_rows_do_without(model, pictures, encoded, times, encodings):
    rows = [Row((i,), PROMPTS[i], "realism") for i in (0, 1) for _ in range(times)]
    assert len(model.reason([model.open(picture) for picture in pictures[:2]], rows)) == 2 * times
    assert encoded == encodings


def test_rows_repeated_unequally_often_are_not_shared(model, pictures):
    images = [model.open(picture) for picture in pictures[:2]]
    first, second = (Row((i,), PROMPTS[i], "realism") for i in (0, 1))
    traces = model.reason(images, [first, first, second, second, second], temperature=0)
    assert traces == [traces[0]] * 2 + [traces[2]] * 3
    assert traces[0] == model.reason(images, [first], temperature=0)[0]


def test_questions_of_unequal_lengths_are_judged_one_dimension_after_the_other(
    model, pictures, encoded, monkeypatch, separately
):
    """A form that repeats the prompt in the question: no common end for generation, so each prefix holds it."""
    forms = replace(model.forms, reasoning=model.forms.reasoning + " {prompt}")
    asking = RewardModel(model.backbone.model, model.tokenizer, model.rubric, forms, max_trace_tokens=8).eval()
    asking.backbone.shared_prefix.right = True  # without a self-check, which encodes as well
    seen, look = [], asking.backbone.vision_tower.forward

    def call():
        return asking.judge(pictures[:2], PROMPTS[:2], traces=2, temperature=0)

    with monkeypatch.context() as patch:
        patch.setattr(asking.backbone.vision_tower, "forward", lambda *a, **k: seen.append(1) or look(*a, **k))
        together = call()
    dimensions = len(asking.rubric.dimension_names)
    assert encoded == [2] * dimensions and len(seen) == dimensions  # what is sampled is read off the same prefix
    for one, other in zip(together, separately(call), strict=True):
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


def test_gradient_checkpointing_in_train_mode_changes_nothing(model, pictures):
    images, row = [model.open(pictures[0])], Row((0,), PROMPTS[0], "realism")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def call():
        scores = model(pixels, PROMPTS[:2]).mean
        return model.reason(images, [row, row], temperature=0), scores, torch.autograd.grad(scores.sum(), pixels)[0]

    expected = call()
    model.train()
    model.backbone.gradient_checkpointing_enable()
    try:
        traces, scores, gradient = call()
        assert model.training
    finally:
        model.backbone.gradient_checkpointing_disable()
        model.eval()
    assert traces == expected[0]
    assert torch.allclose(scores, expected[1], atol=1e-6)
    assert (gradient - expected[2]).norm() <= 1e-5 * expected[2].norm()


@pytest.mark.parametrize("reentrant", [False, True])
def test_weights_of_checkpointed_layers_get_their_whole_gradient(model, pictures, reentrant, separately):
    """The reentrant way runs layers without a graph at first: such rows are read whole."""
    trained = copy.deepcopy(model).train()
    base = trained.backbone.base
    inputs = replace(
        trained.collate(
            [trained.open(picture) for picture in pictures[:2]],
            [Row((i,), PROMPTS[i], name) for i in (0, 1) for name in trained.rubric.dimension_names],
        ),
        share=True,
    )

    def gradients():
        trained.zero_grad()
        trained.backbone(inputs).score_logits.log_softmax(-1)[:, 0].sum().backward()
        return {name: weight.grad.clone() for name, weight in base.named_parameters() if weight.grad is not None}

    expected = separately(gradients)
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    base.enable_input_require_grads()
    assert (trained.backbone.shared_prefix.cut(trained.backbone, inputs) is None) == reentrant
    with torch.no_grad():
        assert trained.backbone.shared_prefix.cut(trained.backbone, inputs) is not None
    found = gradients()
    assert found.keys() == expected.keys()
    whole = sum(float(each.square().sum()) for each in expected.values()) ** 0.5
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name
    trained.eval()
    assert trained.backbone.shared_prefix.cut(trained.backbone, inputs) is not None


@torch.no_grad()
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS[:2]], ids=["without padding", "with padding"])
def test_an_encoded_prefix_keeps_states_and_not_what_they_came_from(model, pictures, prompts):
    images, backbone = [model.open(picture) for picture in pictures[:2]], model.backbone
    inputs = model.collate(images, [Row((i,), prompt, "realism") for i, prompt in enumerate(prompts)])
    cut = backbone.shared_prefix.cut(backbone, inputs, singly=True)
    cache = backbone.shared_prefix.encode(backbone, cut, Images(backbone.encode_images(inputs), inputs.grid)).cache
    states = [
        state
        for layer in cache.layers
        if isinstance(layer, _States)
        for state in (layer.left_conv, layer.left_recurrent)
    ]
    assert len(states) == 2
    for state in states:
        assert state.untyped_storage().nbytes() == state.nbytes


@torch.no_grad()
def test_a_generation_counts_on_from_its_prefix(family_model, pictures):
    """Two rows of two tokens behind each of three prefixes; models that count images take three places a token."""
    backbone = family_model.backbone
    images = [family_model.open(picture) for picture in pictures[:3]]
    inputs = family_model.collate(images, [Row((i,), prompt, "realism") for i, prompt in enumerate(PROMPTS)])
    cut = backbone.shared_prefix.cut(backbone, inputs, singly=True)
    prefix = backbone.shared_prefix.encode(backbone, cut, Images(backbone.encode_images(inputs), inputs.grid))
    given = generation_inputs(backbone, prefix, torch.full((6, 2), 5))
    places = given["position_ids"]
    assert places.shape == ((3,) if takes_grids(backbone.base.model) else ()) + (6, prefix.mask.shape[1] + 2)
    for n in range(6):
        start = int(prefix.position[n // 2])
        expected = torch.tensor([start, start + 1]).expand_as(places[..., n, -2:])
        assert torch.equal(places[..., n, -2:], expected)
        assert given["attention_mask"][n].tolist() == [*prefix.mask[n // 2].tolist(), 1, 1]


def test_a_judge_encodes_image_and_prompt_once(model, pictures, monkeypatch):
    seen = []
    original = model.backbone.vision_tower.forward

    def counted(*args, **options):
        seen.append(len(options["grid_thw"]))
        return original(*args, **options)

    monkeypatch.setattr(model.backbone.vision_tower, "forward", counted)
    model.judge(pictures[:2], "a red circle", traces=3)
    assert seen == [2]


def test_models_of_every_family_share(family_model):
    assert can_share(family_model.backbone)


def test_every_image_and_prompt_is_encoded_once(model, pictures, monkeypatch):
    model.score(pictures[:1], "a red circle")  # the self-check is over
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


@pytest.mark.parametrize("gradients", [False, True])
def test_the_last_layer_reads_a_prefix_for_its_keys_alone(family_model, pictures, gradients):
    """Nobody reads a prefix's last hidden states: without gradients the pass ends where the last layer has kept its part."""
    family_model.score(pictures[:1], PROMPTS[0])  # the self-check is over
    language = family_model.backbone.base.model.language_model
    passed = {"whole": 0, "last": 0}

    def count(name):
        def hook(_, args, output):
            passed[name] += args[0].shape[:-1].numel()

        return hook

    handles = [
        language.layers[0].mlp.register_forward_hook(count("whole")),
        language.layers[-1].mlp.register_forward_hook(count("last")),
    ]
    with torch.set_grad_enabled(gradients):
        family_model(torch.rand(2, 3, 32, 32), PROMPTS[:2])
    for handle in handles:
        handle.remove()
    assert (passed["last"] < passed["whole"]) != gradients, passed
