"""The parts of every roll-out objective, by hand: sampled tokens, losses, importance weights, divergences, rewards."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.training.small_inputs import inputs
from zreward.distribution import ScoreScale
from zreward.models.backbone import BackboneOutput
from zreward.training.recipe import RolloutRecipe
from zreward.training.rollout_objectives import OBJECTIVES, Sequences, _correction, divergences, sampled_tokens

SCALE = ScoreScale(1, 3, 1)  # R = 2
TEMPERATURE = 0.5


def test_slices_of_sequences_keep_what_belongs_together():
    whole = Sequences(inputs(3, [[1, 0]] * 3), advantages=torch.arange(3.0), partner_mu=torch.arange(6.0).view(3, 2))
    part = whole.rows(slice(1, 3))
    assert part.advantages.tolist() == [1, 2] and part.partner_mu.tolist() == [[2, 3], [4, 5]]
    assert len(part.inputs) == 2 and part.labels is None and part.target is None


@pytest.fixture
def batch():
    """Two sequences of two and one tokens; their scores, labels and partners."""
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    log_probs = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]], dtype=torch.float64)
    sequences = Sequences(
        inputs(2, [[1, 1], [1, 0]]),
        advantages=torch.tensor([1.0, -2.0]).double(),
        score=torch.tensor([3.0, 1.0]).double(),
        target=torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]).double(),
        partner_mu=torch.tensor([[1.0, 2.0], [2.5, 3.0]]).double(),
        partner_score=torch.tensor([1.0, 3.0]).double(),
    )
    return BackboneOutput(logits, log_probs), sequences


def recipe(**options) -> RolloutRecipe:
    return RolloutRecipe(temperature=TEMPERATURE, **options)


def test_sampled_tokens_with_and_without_a_written_score(batch):
    output, sequences = batch
    log_probs, mask = sampled_tokens(output, sequences.inputs, None, TEMPERATURE)
    assert torch.equal(log_probs, output.trace_log_probs) and mask.tolist() == [[True, True], [True, False]]
    log_probs, mask = sampled_tokens(output, sequences.inputs, torch.tensor([2, 0]), TEMPERATURE)
    assert mask.tolist() == [[True, True, True], [True, False, True]] and mask.dtype == torch.bool
    # Logits over 0.5: (0, 2, 4) and (2, 0, 0).
    by_hand = [4 - math.log(1 + math.e**2 + math.e**4), 2 - math.log(math.e**2 + 2)]
    assert log_probs[:, 2].tolist() == pytest.approx(by_hand, abs=1e-12)
    assert torch.equal(log_probs[:, :2], output.trace_log_probs)


@pytest.mark.parametrize("absent", ["log-probabilities", "mask"])
def test_a_roll_out_without_traces_is_a_mistake_of_the_program(batch, absent):
    output, sequences = batch
    if absent == "mask":
        sequences = Sequences(inputs(2))
    else:
        output = BackboneOutput(output.score_logits, None)
    with pytest.raises(AssertionError, match="roll-outs have traces"):
        sampled_tokens(output, sequences.inputs, None, TEMPERATURE)


def test_parts_of_grpo(batch):
    loss, parts = OBJECTIVES["grpo"](batch[0], None, batch[1], recipe(), SCALE)
    # On policy every token's loss is minus the advantage: (-1 + 2) / 2.
    assert loss.item() == pytest.approx(0.5) and parts == {"policy_loss": loss}


@pytest.mark.parametrize("preference", ["score_gap", "bradley_terry"])
def test_parts_of_gdso(batch, preference):
    output, sequences = batch
    options = recipe(policy_weight=0.5, alpha_pt=3.0, alpha_pw=5.0, preference_loss=preference)
    mu = [1.5, 2.0]
    loss, parts = OBJECTIVES["gdso"](output, torch.tensor(mu).double(), sequences, options, SCALE)
    first, second = output.score_logits.log_softmax(-1).tolist()
    pointwise = -(first[2] + (second[0] + second[1]) / 2) / 2
    terms = []
    for m, partners, score, other in zip(mu, sequences.partner_mu.tolist(), [3, 1], [1, 3], strict=True):
        margins = [m - k for k in partners]
        if preference == "score_gap":
            terms.append(2 / (2 * 2) * sum(abs(margin - (score - other)) for margin in margins))
        else:
            sign = 1 if score > other else -1
            terms.append(2 / 2 * sum(math.log(1 + math.exp(-sign * margin)) for margin in margins))
    gap = sum(terms) / 2
    found = {name: value.item() for name, value in parts.items()}
    expected = {"policy_loss": 0.5 * 0.5, "pointwise_loss": pointwise, "gap_loss": gap / 2}
    assert found == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}
    assert loss.item() == pytest.approx(0.25 + 3 * pointwise + 5 * gap, abs=1e-12)


@pytest.mark.parametrize("weight", [None, 2.0])
def test_parts_of_opd(batch, weight):
    """`weight`: how much more likely the policy finds a trace's tokens than the engine that sampled them."""
    output, sequences = batch
    teacher = torch.tensor([[-0.5, -3.0, -1.0], [-1.5, 9.0, -0.25]]).double()
    old = torch.tensor([[-1.5, -2.0, -0.5], [-0.5, 9.0, -0.5]]).double()
    sampler = None if weight is None else old[:, :2] - math.log(weight)
    given = Sequences(
        sequences.inputs,
        torch.tensor([2, 0]),
        teacher_log_probs=teacher,
        old_log_probs=old,
        sampler_log_probs=sampler,
    )
    loss, parts = OBJECTIVES["opd"](output, None, given, recipe(importance_cap=3.0), SCALE)
    labels = [4 - math.log(1 + math.e**2 + math.e**4), 2 - math.log(math.e**2 + 2)]
    w = weight or 1.0
    first = (w * (1.0 * -1) + w * (-1.0 * -2) + (-0.5 * labels[0])) / 3  # (teacher - old) times the log-probability
    second = (w * (-1.0 * -0.5) + (0.25 * labels[1])) / 2
    assert loss.item() == pytest.approx(-(first + second) / 2, abs=1e-12)
    kl = (((-1 + 0.5) + (-2 + 3) + (labels[0] + 1)) / 3 + ((-0.5 + 1.5) + (labels[1] + 0.25)) / 2) / 2
    assert parts["policy_loss"] is loss and parts["reverse_kl"].item() == pytest.approx(kl, abs=1e-12)
    assert weight is None or parts["sampler_difference_max"].item() == pytest.approx(math.log(weight), abs=1e-12)


@pytest.mark.parametrize("reused", [False, True])
def test_weights_and_divergences_are_numbers_that_pass_no_gradient(batch, reused):
    """An engine that finds one token likelier than the policy does, and one less likely."""
    output, sequences = batch
    log_probs = output.trace_log_probs.requires_grad_()
    policy = log_probs.detach() - 0.25 if reused else log_probs.detach()
    sampler = policy + torch.tensor([[0.5, -0.75], [0.0, 9.0]]).double()  # the last one stands outside of the mask
    given = replace(sequences, sampler_log_probs=sampler, old_log_probs=policy if reused else None)
    mask = torch.tensor([[True, True], [True, False]])
    weights, parts = _correction(log_probs, mask, given, recipe(importance_cap=2.0))
    expected = [[math.exp(-0.5), 2.0], [1.0]]  # e to 0.75 is above the cap
    assert [row[keep].tolist() for row, keep in zip(weights, mask, strict=True)] == [
        pytest.approx(row, abs=1e-12) for row in expected
    ]
    assert {name: value.item() for name, value in parts.items()} == {
        "sampler_difference": pytest.approx(1.25 / 3, abs=1e-12),
        "sampler_difference_max": pytest.approx(0.75, abs=1e-12),
    }
    found = divergences(output, replace(given, ref_log_probs=policy - 1.0), recipe())
    behind = {"reference_kl": 1.25, "policy_kl": 0.25} if reused else {"reference_kl": 1.0}  # in log-probability
    assert {name: value.item() for name, value in found.items()} == {
        name: pytest.approx(math.exp(-gap) - 1 + gap, abs=1e-12) for name, gap in behind.items()
    }
    assert not any(value.requires_grad for value in (weights, *parts.values(), *found.values()))


@pytest.mark.parametrize(
    ("method", "parsed", "expected"), [("grpo", 0, 0), ("gdso", 1, 1), ("opd", 0, 1), ("grpo", 1, 1)]
)
def test_who_writes_the_score(method, parsed, expected):
    options = SimpleNamespace(reward_from="parsed" if parsed else "expectation")
    assert OBJECTIVES[method].samples_label(options) is bool(expected)


def test_rewards_of_a_pair_by_hand():
    """Two sides of two traces; Eq. 7 for every trace, and Eq. 10 against both traces of the other side."""
    said, score = [[2.0, 3.5], [1.0, 2.5]], [4.0, 1.5]
    options, size = SimpleNamespace(lambda_pt=0.5, lambda_pw=3.0), SCALE.max - SCALE.min
    given = torch.tensor([said], dtype=torch.float64), torch.tensor([score], dtype=torch.float64)
    pointwise, pairwise = [[0.0] * 2 for _ in "ab"], [[0.0] * 2 for _ in "ab"]
    for side in (0, 1):
        for trace in (0, 1):
            mine, gap = said[side][trace], score[side] - score[1 - side]
            errors = [abs((mine - other) - gap) for other in said[1 - side]]
            pointwise[side][trace] = 0.5 * (1 - abs(mine - score[side]) / size)
            pairwise[side][trace] = 3.0 * (1 - sum(errors) / len(errors) / size)
    for found, expected in zip(OBJECTIVES["grpo"].reward(*given, options, SCALE)[0].tolist(), pointwise, strict=True):
        assert found == pytest.approx(expected)
    total = [[a + b for a, b in zip(one, other, strict=True)] for one, other in zip(pointwise, pairwise, strict=True)]
    for found, expected in zip(OBJECTIVES["gdso"].reward(*given, options, SCALE)[0].tolist(), total, strict=True):
        assert found == pytest.approx(expected)
