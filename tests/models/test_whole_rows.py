"""Rows that share passes against whole rows: probabilities, log-probabilities, gradients to pixels and to weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.other_families import gemma3, internvl
from tests.tiny import COMPARISON, FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.models.shared_prefix import SharedPrefix
from zreward.models.sharing import SharedRows
from zreward.rubric import Dimension

pytestmark = pytest.mark.usefixtures("short_prefixes_stay_apart")

PROMPTS = ["a red circle", "a small blue cross left of a large green square", "a"]
NINE = ("alignment", "realism", "aesthetics", "plausibility", "red", "blue", "left", "right", "above")
SIZES = ((32, 32), (16, 48), (40, 24))
RUBRIC = " rate the {rubric} level {levels}"
"""Spelled in many tokens: an opening that is worth its pass."""


def made(family: str, forms: dict[str, str] | None = None) -> RewardModel:
    """A model that is asked about nine dimensions."""
    others = {"gemma3": gemma3, "internvl": internvl}
    model = (
        others[family]() if family in others else sharpen(tiny_model(family, seed=3), 10 if family == "llava" else 8)
    )
    anchors: dict[int | float, str] = {1: "all wrong", 5: "all right"}
    dimensions = tuple(Dimension(name, name.capitalize(), f"rate the {name}", anchors) for name in NINE)
    rubric = replace(model.rubric, dimensions=dimensions)
    asked = replace(model.forms, **forms or {})
    return RewardModel(model.backbone.model, model.tokenizer, rubric, asked, max_trace_tokens=8).eval()


@pytest.fixture(scope="module", params=[*FAMILIES, "gemma3", "internvl"])
def judge(request) -> RewardModel:
    return made(request.param)


@pytest.fixture(scope="module", params=["no rubric", "rubric"])
def attentive(request) -> RewardModel:
    """With a gated-delta layer; what stands before the picture is short, or long."""
    return made("qwen3_5", {"rubric": RUBRIC} if request.param == "rubric" else {})


@pytest.fixture
def cuts(monkeypatch) -> list[SharedRows | None]:
    """How the rows of every pass from now on are cut."""
    found: list[SharedRows | None] = []
    whole = SharedPrefix.cut

    def cut(*args, **options) -> SharedRows | None:
        found.append(whole(*args, **options))
        return found[-1]

    monkeypatch.setattr(SharedPrefix, "cut", cut)
    return found


def same(found: Tensor, wanted: Tensor) -> None:
    """To 1e-5 of its size."""
    assert wanted.abs().max() > 0
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("opening", ["none", "of the system text", "kept rubric"])
def test_probabilities(judge, opening, request, cuts, separately):
    """Mixed sizes and prompts: padding stands on the right of every pass, in the middle of the keys."""
    if opening == "of the system text":
        request.getfixturevalue("short_openings")
    asked = judge
    if opening == "kept rubric":
        forms = replace(judge.forms, rubric=RUBRIC)
        asked = RewardModel(judge.backbone.model, judge.tokenizer, judge.rubric, forms).eval()
    pictures = noise_pictures(3, SIZES)
    for count in (1, 2, 4, 9):
        together = asked.score(pictures, PROMPTS, NINE[:count]).probs
        assert (cuts[-1] is None) == (count == 1 and opening == "none")
        if cuts[-1] is not None:
            assert (cuts[-1].opening is not None) == (opening != "none")
            assert (cuts[-1].prefix is not None) == (count > 1)
        apart = separately(lambda count=count: asked.score(pictures, PROMPTS, NINE[:count]).probs)
        assert torch.allclose(together, apart, atol=1e-5)
        assert apart.std(0).max() > 1e-3, "the model looks at its input"
    assert asked.backbone.shared_prefix.right


def rows_of(model: RewardModel, sizes=SIZES, dimensions=NINE[:4]) -> tuple[list[Tensor], list[Row]]:
    """Pictures that take a gradient, and their questions."""
    pictures = [model.open(picture).requires_grad_() for picture in noise_pictures(len(sizes), sizes)]
    return pictures, [Row((i,), PROMPTS[i % len(PROMPTS)], name) for i in range(len(sizes)) for name in dimensions]


def pixel_gradients(model: RewardModel, pictures: list[Tensor], rows: list[Row]) -> list[Tensor]:
    logits = model.backbone(replace(model.collate(pictures, rows), share=True)).score_logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))  # every number counts differently
    return list(torch.autograd.grad((logits.log_softmax(-1) * weights).sum(), pictures))


@pytest.mark.parametrize("frozen", [False, True], ids=["opening in the graph", "opening kept"])
def test_pixel_gradients_of_mixed_sizes(judge, frozen, short_openings, cuts, separately):
    model = copy.deepcopy(judge).requires_grad_(not frozen)
    for dimensions in (NINE[:1], NINE[:4], NINE):
        pictures, rows = rows_of(model, SIZES, dimensions)
        found = pixel_gradients(model, pictures, rows)
        assert cuts[-1].opening is not None
        wanted = separately(lambda pictures=pictures, rows=rows: pixel_gradients(model, pictures, rows))
        for one, other in zip(found, wanted, strict=True):
            same(one, other)


def test_unequally_many_questions_of_a_picture(judge, short_openings, cuts, separately):
    model = copy.deepcopy(judge)
    pictures, rows = rows_of(model)
    rows = [row for n, row in enumerate(rows) if n not in (1, 4, 5, 6)]  # three questions, one, four
    found = pixel_gradients(model, pictures, rows)
    assert cuts[-1].follow.times is None
    for one, other in zip(found, separately(lambda: pixel_gradients(model, pictures, rows)), strict=True):
        same(one, other)


def test_log_probabilities_of_traces_and_explanations(judge, short_openings, cuts, separately):
    """Two traces of a picture are alike at first; explanations follow the score, which is read before them."""
    pictures, rows = rows_of(judge, SIZES[:2], NINE[:1])
    rows = [row for row in rows for _ in range(3)]
    words = judge.tokenizer(" the red circle is too large and the blue square", add_special_tokens=False)["input_ids"]
    stop = judge.encoder.stop_ids
    texts = [Trace((*words[:length], *stop), truncated=False) for length in (3, 4, 9, 1, 5)]
    texts.append(Trace(tuple(words[:4]), truncated=True))
    for key in ("trace", "explanation"):
        given = [replace(row, **{key: t if key == "trace" else (4, t)}) for row, t in zip(rows, texts, strict=True)]
        inputs = replace(judge.collate([p.detach() for p in pictures], given), share=True)

        def call(inputs=inputs):
            with torch.no_grad():
                return judge.backbone(inputs, temperature=0.7)

        together, apart = call(), separately(call)
        assert cuts[-1].opening is not None and cuts[-1].prefix is not None
        assert torch.allclose(together.score_logits.softmax(-1), apart.score_logits.softmax(-1), atol=1e-5)
        assert torch.allclose(together.trace_log_probs, apart.trace_log_probs, atol=1e-4, rtol=1e-5)
        assert torch.equal(together.trace_log_probs != 0, inputs.trace_mask.bool())


def test_two_pictures_of_a_comparison(judge, short_openings, cuts, separately):
    model = comparing(judge, COMPARISON)
    model.backbone.shared_prefix.right = None
    pictures, others = noise_pictures(3, SIZES), noise_pictures(3, SIZES[::-1], seed=1)

    def score():
        return model.score(pictures, PROMPTS, NINE[:4], references=others).probs

    together = score()
    assert cuts[-1].prefix.images.shape == (3, 2) and cuts[-1].opening is not None
    assert torch.allclose(together, separately(score), atol=1e-5)
    opened, rows = rows_of(model, (*SIZES, *SIZES[::-1]), NINE[:4])
    rows = [replace(row, images=(row.images[0] + 3, *row.images)) for row in rows if row.images[0] < 3]
    found = pixel_gradients(model, opened, rows)
    for one, other in zip(found, separately(lambda: pixel_gradients(model, opened, rows)), strict=True):
        same(one, other)


def test_adapters(attentive, short_openings, cuts, separately):
    """Probabilities, and the gradients of all of an adapter's weights."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    network = get_peft_model(copy.deepcopy(attentive.backbone.model), config)
    model = RewardModel(network, attentive.tokenizer, attentive.rubric, attentive.forms).eval()

    def call():
        model.zero_grad()
        pictures, rows = rows_of(model)
        logits = model.backbone(replace(model.collate(pictures, rows), share=True)).score_logits
        logits.log_softmax(-1)[:, 2].sum().backward()
        return logits.softmax(-1).detach(), {n: w.grad for n, w in model.named_parameters() if w.requires_grad}

    (probs, found), (expected, wanted) = call(), separately(call)
    assert cuts[-1].opening is not None and torch.allclose(probs, expected, atol=1e-5)
    whole = sum(float(each.square().sum()) for each in wanted.values()) ** 0.5
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name


def test_another_batch_changes_nothing(attentive, short_openings):
    """Of sizes that pad others, and of pictures that are read alone."""
    pictures = noise_pictures(5, (*SIZES, (64, 64)))
    texts = [PROMPTS[i % 3] for i in range(5)]
    whole = attentive.score(pictures, texts).probs
    for size in (1, 2):
        assert torch.allclose(attentive.score(pictures, texts, batch_size=size).probs, whole, atol=1e-5)


# --- sliding windows


@pytest.mark.parametrize("window", [24, 48, 512])
def test_rows_longer_than_a_window_are_read_whole(window, short_openings, cuts, separately):
    model = gemma3(window)
    pictures = noise_pictures(2)
    together = model.score(pictures, PROMPTS[:2]).probs
    assert (cuts[-1] is not None) == (window > 36)
    assert torch.allclose(together, separately(lambda: model.score(pictures, PROMPTS[:2]).probs), atol=1e-5)


@pytest.mark.parametrize("window", range(24, 64, 3))
def test_padding_between_passes_pushes_nothing_out_of_a_window(window, cuts, separately):
    """A long prompt with short traces beside a short one with long traces: each row is shorter than both passes together."""
    model = gemma3(window)
    words = model.tokenizer(" a red circle is too large and the blue square", add_special_tokens=False)["input_ids"]
    long, short = Trace(tuple(words * 2), truncated=True), Trace(tuple(words[:1]), truncated=True)
    rows = [Row((0,), PROMPTS[1], "realism", short)] * 2 + [Row((1,), "a", "realism", long)] * 2
    inputs = replace(model.collate([model.open(picture) for picture in noise_pictures(2)], rows), share=True)

    def call():
        with torch.no_grad():
            return model.backbone(inputs)

    together, apart = call(), separately(call)
    assert model.backbone.shared_prefix.right is not False
    assert torch.allclose(together.score_logits.softmax(-1), apart.score_logits.softmax(-1), atol=1e-5)
    assert torch.allclose(together.trace_log_probs, apart.trace_log_probs, atol=1e-4)
    if cuts[-1] is not None:
        assert cuts[-1].width < window


@pytest.mark.parametrize("window", [30, 36, 42, 48, 512])
def test_traces_that_grow_longer_than_a_window(window, separately):
    model = gemma3(window)
    model.max_trace_tokens = 16

    def call():
        return model.judge(noise_pictures(2), PROMPTS[:2], traces=2, dimensions=["realism"], temperature=0)

    for together, apart in zip(call(), separately(call), strict=True):
        assert together.traces == apart.traces
        assert torch.allclose(together.trace_distribution, apart.trace_distribution, atol=1e-5)
