"""A model that is not read right in shared passes is noticed at first use, and then every row is read whole."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.models.caches import Follow, _States
from zreward.models.inputs import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.models.shared_prefix import SharedPrefix, _share, of_branches

pytestmark = pytest.mark.usefixtures("short_openings", "short_prefixes_stay_apart")
PROMPT = "a red circle above a blue square"
PICTURES = noise_pictures(2)


@pytest.fixture(scope="module")
def untried() -> RewardModel:
    return sharpen(tiny_model(seed=6))


@pytest.fixture
def fresh(untried) -> RewardModel:
    """Nothing has been read yet."""
    model = copy.deepcopy(untried)
    assert model.backbone.shared_prefix.right is None
    return model


def wrong_keys(patch) -> None:
    extend = Follow.extend
    patch.setattr(Follow, "extend", lambda follow, before, own: extend(follow, before.roll(1, -1), own))


def wrong_attention(patch) -> None:
    apart = "zreward.models.attention._attend_apart"
    patch.setattr(apart, lambda query, key, value, mask, dropout: 0 * query)


def no_states(patch) -> None:
    begin = _States.__init__

    def forget(states, before, follow, lengths):
        begin(states, None, None, lengths)

    patch.setattr(_States, "__init__", forget)


def padding_is_seen(patch) -> None:
    patch.setattr("zreward.models.padding._NOTHING", 0.0)


def wrong_places(patch) -> None:
    from zreward.models import passes

    places = passes._places
    patch.setattr(passes, "_places", lambda backbone, part, images: 3 * places(backbone, part, images))


FAULTS = [wrong_keys, wrong_attention, no_states, wrong_places]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("how", ["score", "forward", "judge"])
def test_a_fault_is_told_once_and_the_answer_is_right(fault, how, fresh, monkeypatch, separately):
    def call():
        if how == "score":
            return fresh.score(PICTURES, PROMPT).probs
        if how == "judge":
            return fresh.judge(PICTURES, PROMPT, traces=2, temperature=0)[1].trace_distribution
        return fresh(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), PROMPT).probs.detach()

    expected = separately(call)
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.warns(
            UserWarning, match=r"Qwen3_5.*differ by 0\.\d+ from those of whole rows; every row is read whole"
        ):
            assert torch.allclose(call(), expected, atol=1e-6)
    assert fresh.backbone.shared_prefix.right is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(call(), expected, atol=1e-6)


def test_padding_of_the_first_rows_is_tried_too(fresh, monkeypatch, separately):
    """Unequal prompts: padding stands behind the shorter prefix."""
    prompts = ["a", "a small blue cross left of a large green square"]

    def call():
        return fresh.score(PICTURES, prompts, ["realism", "alignment"]).probs

    expected = separately(call)
    padding_is_seen(monkeypatch)
    with pytest.warns(UserWarning, match="read whole"):
        assert torch.allclose(call(), expected, atol=1e-6)


def test_a_right_model_is_tried_once_and_silently(fresh, monkeypatch):
    tried = []
    original = SharedPrefix._try
    monkeypatch.setattr(SharedPrefix, "_try", lambda *args: tried.append(1) or original(*args))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            fresh.score(PICTURES, PROMPT)
    assert tried == [1] and fresh.backbone.shared_prefix.right is True


def test_rows_that_have_nothing_in_common_leave_it_to_the_next_call(fresh, monkeypatch):
    """Nothing can be tried with a row whose picture comes last, and that begins with too little for a pass."""
    monkeypatch.setattr("zreward.models.sharing.SHORT_OPENING", 64)
    inputs = fresh.collate([fresh.open(PICTURES[0])], [Row((0,), PROMPT, "realism")])
    ids = inputs.input_ids.clone()
    ids[0, -1] = fresh.encoder.image_token_id
    assert fresh.backbone.shared_prefix.cut(fresh.backbone, replace(inputs, input_ids=ids)) is None
    assert fresh.backbone.shared_prefix.right is None


def test_scores_that_are_not_finite_decide_nothing(fresh):
    head = fresh.backbone.base.get_output_embeddings().weight
    kept = head.data.clone()
    head.data.fill_(float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="finite|NaN|nan"):
            fresh.score(PICTURES, PROMPT)
    assert fresh.backbone.shared_prefix.right is None
    head.data.copy_(kept)
    fresh.score(PICTURES, PROMPT)
    assert fresh.backbone.shared_prefix.right is True


def test_dropout_does_not_look_like_a_fault(fresh):
    """In training too: both ways are read without it, and every part's mode comes back."""
    attention = fresh.backbone.base.model.language_model.layers[1].self_attn
    attention.attention_dropout = 0.5
    fresh.train()
    fresh.backbone.vision_tower.eval()
    modes = [part.training for part in fresh.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(torch.rand(2, 3, 32, 32), PROMPT)
    assert fresh.backbone.shared_prefix.right is True
    assert [part.training for part in fresh.modules()] == modes


@pytest.mark.parametrize(
    ("dtype", "off", "right"),
    [
        *((torch.float32, 2e-3, False), (torch.float32, 5e-4, True)),
        *((torch.float64, 2e-3, False), (torch.float64, 5e-4, True)),
        *((torch.bfloat16, 0.25, False), (torch.bfloat16, 0.15, True)),
    ],
)
def test_how_far_probabilities_may_differ(dtype, off, right, fresh, monkeypatch):
    fresh.backbone.to(dtype)
    read, calls = fresh.backbone.read, []

    def shifted(hidden, inputs, *temperature):
        output = read(hidden, inputs, *temperature)
        calls.append(1)
        if len(calls) > 2:
            return output
        probs = torch.full_like(output.score_logits, 1 / 9, dtype=torch.float64)
        if len(calls) == 2:  # the second reading is that of whole rows
            probs[-1] -= off / 8
            probs[-1, 3] = 1 / 9 + off  # more than that the shared passes have nowhere
        return replace(output, score_logits=probs.log())

    monkeypatch.setattr(fresh.backbone, "read", shifted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh.score(PICTURES, PROMPT)
    assert fresh.backbone.shared_prefix.right is right
    assert fresh.backbone.base.dtype == dtype


def test_few_rows_are_read_to_their_ends(fresh, monkeypatch):
    """Four of eight, whatever traces or explanations there are: no log-probabilities are computed for it."""
    words = Trace(tuple(fresh.encoder.prefix_ids), truncated=True)
    rows = [Row((i // 4,), PROMPT, name) for i, name in enumerate(2 * fresh.rubric.dimension_names)]
    images = [fresh.open(picture) for picture in PICTURES]
    for asked in ([replace(row, trace=words) for row in rows], [replace(row, explanation=(3, words)) for row in rows]):
        model, seen = copy.deepcopy(fresh), []
        read = model.backbone.read

        def watched(hidden, inputs, read=read, seen=seen):
            assert not hidden.requires_grad, "no graph is built for it"
            seen.append(inputs)
            return read(hidden, inputs)

        monkeypatch.setattr(model.backbone, "read", watched)
        inputs = model.collate(images, asked)
        assert model.backbone.shared_prefix.cut(model.backbone, inputs) is not None
        _, whole = seen
        assert [len(each) for each in seen] == [4, 4]
        assert [each.trace_mask for each in seen] == [None, None] and whole.score_at is None


# --- what is read whole without a check


def test_a_model_that_cannot_share_is_left_as_it_is(fresh, monkeypatch):
    monkeypatch.setattr("zreward.models.shared_prefix.can_share", lambda backbone: False)
    monkeypatch.setattr("zreward.models.shared_prefix.watch_padding", None)
    monkeypatch.setattr("zreward.models.shared_prefix.use_prefixed_attention", None)
    shared = SharedPrefix(fresh.backbone)
    assert shared.right is False
    assert shared.cut(fresh.backbone, eight_rows(fresh)) is None


def eight_rows(model: RewardModel) -> ModelInput:
    rows = [Row((i,), PROMPT, name) for i in (0, 1) for name in model.rubric.dimension_names]
    return model.collate([model.open(picture) for picture in PICTURES], rows)


@pytest.fixture
def checked(fresh) -> RewardModel:
    fresh.backbone.shared_prefix.right = True
    return fresh


@pytest.mark.parametrize("ahead", [0, 3])
def test_all_passes_together_are_shorter_than_a_window(checked, ahead, monkeypatch):
    """What follows later counts; nothing does where nothing is said about it."""
    backbone, inputs = checked.backbone, eight_rows(checked)
    given = {"ahead": ahead} if ahead else {}
    width = backbone.shared_prefix.cut(backbone, inputs).width
    for window, shared in ((width + ahead, False), (width + ahead + 1, True), (None, True)):
        monkeypatch.setattr("zreward.models.shared_prefix.shortest_window", lambda config, window=window: window)
        assert (backbone.shared_prefix.cut(backbone, inputs, **given) is not None) == shared
        assert (_share(backbone, inputs, kept=True, singly=False, **given) is not None) == shared


@torch.no_grad()
def test_an_opening_that_training_does_not_keep_is_not_read_for_one_row(checked):
    """Beside a kept one, a row is read from there."""
    inputs = checked.collate([checked.open(PICTURES[0])], [Row((0,), PROMPT, "realism")])
    cut = checked.backbone.shared_prefix.cut
    assert cut(checked.backbone, inputs).opening is not None
    checked.train()
    assert cut(checked.backbone, inputs) is None


def test_what_belongs_to_the_branches(checked):
    inputs = eight_rows(checked)
    cut = checked.backbone.shared_prefix.cut(checked.backbone, inputs)
    found = of_branches(inputs, cut)
    for n, (ids, mask, at) in enumerate(zip(found.input_ids, found.attention_mask, found.score_at, strict=True)):
        length = int(mask.sum())
        whole = inputs.input_ids[n, inputs.attention_mask[n].bool()]
        assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
        assert ids[:length].tolist() == whole[-length:].tolist() and at == length - 1
