"""The roll-out trainer's parts: forward passes of a step, seeds, figures in the log, what is kept."""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from tests.tiny import noise_pictures, tiny_model
from tests.training.small_inputs import inputs
from zreward.common.runs import RunDirectory
from zreward.data import Pair, Record
from zreward.distribution import ScoreScale
from zreward.models.draws import seed_of
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.training import rollout as rollout_module
from zreward.training.rollout import RolloutTrainer, _Rollout
from zreward.training.rollout_data import pair_items
from zreward.training.rollout_objectives import OBJECTIVES, Grpo, Sequences
from zreward.training.run import prepare
from zreward.training.trainer_base import MOST, WEIGHT

SCALE = ScoreScale(1, 3, 1)  # R = 2
TEMPERATURE = 0.5


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, [slice(0, 7)]),
        (3, [slice(0, 3), slice(3, 6), slice(6, 7)]),
        (7, [slice(0, 7)]),
        (9, [slice(0, 7)]),
        (1, [slice(n, n + 1) for n in range(7)]),
    ],
)
def test_a_rollout_is_cut_into_forward_passes(size, expected):
    trainer = SimpleNamespace(options=SimpleNamespace(sequences_per_forward=size))
    assert RolloutTrainer._slices(trainer, _Rollout(inputs(7), [], [], 1)) == expected


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        (3, 7, [slice(0, 3), slice(3, 4), slice(0, 1)]),
        (2, 8, [slice(0, 2), slice(2, 4), slice(0, 1), slice(0, 1)]),
        (None, 9, [slice(0, 4)]),
        (3, 2, [slice(0, 3), slice(3, 4)]),
    ],
)
def test_a_process_with_fewer_sequences_runs_as_many_passes(size, most, expected):
    """Where weights are sharded, the others would wait for it for ever."""
    trainer = SimpleNamespace(options=SimpleNamespace(sequences_per_forward=size))
    assert RolloutTrainer._slices(trainer, _Rollout(inputs(4), [], [], 1, most=most)) == expected


def rollout(**fields) -> _Rollout:
    """One pair, two traces a side: of 3, 1, 2 and 2 tokens, the second one cut off."""
    traces = [Trace((5, 5, 5), False), Trace((5,), True), Trace((5, 5), False), Trace((5, 5), False)]
    made = _Rollout(inputs(4), [Row((0,), "p", "a", trace) for trace in traces], [Record("p", b"0", {})] * 2, 2)
    for name, value in fields.items():
        setattr(made, name, torch.tensor(value))
    return made


def logged(made: _Rollout) -> dict[str, float]:
    found: dict[str, float] = {}
    RolloutTrainer._log_rollout(SimpleNamespace(record=lambda **figures: found.update(figures)), made)
    return {name: float(value) for name, value in found.items()}


def test_figures_of_a_rated_rollout(make_trainer):
    """Two sides of two traces; scores are put where the expectations are whole numbers."""
    trainer = make_trainer()
    bins = trainer.scale.bins.tolist()
    said = [[[2.0, 3.0], [1.5, 2.5]]]
    logits = torch.full((4, len(bins)), -1e9)
    for row, value in enumerate(value for side in said[0] for value in side):
        logits[row, bins.index(value)] = 0.0
    made = rollout(score_BJ=[[3.0, 1.0]], target_BJS=[[[0.0] * len(bins)] * 2])
    found = {}
    trainer.record = lambda **figures: found.update({name: float(value) for name, value in figures.items()})
    trainer._reward(made, logits, Sequences(made.inputs))
    rewards = [1 - abs(value - score) / 4 for value, score in ((2, 3), (3, 3), (1.5, 1), (2.5, 1))]
    assert found == {
        "reward": pytest.approx(sum(rewards) / 4),
        "group_spread": pytest.approx(math.sqrt(0.5)),  # sample deviation of two values one apart
        "absolute_error": pytest.approx((1.0 + 0.0 + 0.5 + 1.5) / 4),
    }


def test_figures_of_an_unrated_rollout():
    assert logged(rollout()) == {"trace_tokens": 2.0, "truncated": 0.25}


@pytest.fixture
def make_trainer(make_recipe, tmp_path):
    """make_trainer(model=None, **rollout options): on one pair of two traces a side; the traces are given, none is sampled."""

    def make(model: RewardModel | None = None, **options) -> RolloutTrainer:
        model = model or tiny_model()
        scored = zip(noise_pictures(2), (4, 2), strict=True)
        records = [Record("a red circle", picture, {"realism": score}) for picture, score in scored]
        items = pair_items(records, [Pair(0, 1, "realism", 2.0)], model, 0.0)
        model.reason = lambda images, rows, temperature, seeds: [Trace((5, 6), truncated=True) for _ in rows]
        options = {f"rollout__{name}": value for name, value in options.items()}
        recipe = make_recipe("grpo", optimizer__batch_size=1, **options)
        return RolloutTrainer(model, recipe, RunDirectory(tmp_path / "run"), items)

    return make


def test_the_reference_is_a_copy_that_does_not_learn(make_trainer):
    trainer = make_trainer(tiny_model().train(), beta=0.1)
    reference, policy = trainer._reference, trainer.reward_model.backbone
    assert policy.training and not any(module.training for module in reference.modules())
    assert not any(weight.requires_grad for weight in reference.parameters())
    mine, other = next(policy.parameters()), next(reference.parameters())
    assert torch.equal(mine, other) and mine.data_ptr() != other.data_ptr()


def test_weights_are_copied_only_where_a_reference_needs_them(make_trainer, make_recipe):
    """None without a KL term, and none of an adapter's base: that is the policy without its adapter."""
    assert make_trainer(beta=0.0)._reference is None
    adapted = prepare(tiny_model(), make_recipe("grpo", model__lora_rank=2))
    assert make_trainer(adapted, beta=0.1)._reference is None


def test_blocks_of_pairs_are_as_large_as_an_optimizer_step():
    args = SimpleNamespace(per_device_train_batch_size=2, world_size=3, gradient_accumulation_steps=5, seed=7)
    trainer = SimpleNamespace(args=args, _items=100, options=SimpleNamespace(updates_per_rollout=4))
    sampler = RolloutTrainer._get_train_sampler(trainer)
    assert (sampler.size, sampler.block, sampler.repeats, sampler.seed) == (100, 30, 4, 7)


def test_a_loss_that_is_no_number_stops_a_roll_out_run_before_its_update(make_trainer):
    trainer = make_trainer()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    class Broken(Grpo):
        def __call__(self, output, *_):
            return output.score_logits.sum() * float("nan"), {}

    trainer.objective = Broken()
    with pytest.raises(FloatingPointError, match="step 0: the loss is nan"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_every_step_logs_its_roll_out(make_trainer):
    trainer = make_trainer(beta=0.1)
    trainer.train()
    steps = [row for row in trainer.state.log_history if "loss" in row]
    assert len(steps) == 2
    for row in steps:
        assert row["trace_tokens"] == 2.0 and row["truncated"] == 1.0
        assert {"reward", "group_spread", "absolute_error", "policy_loss"} <= row.keys()


def test_a_trace_has_a_seed_of_its_step_item_side_and_place(make_trainer):
    trainer, asked = make_trainer(), []
    (item,) = trainer.train_dataset
    trainer.reward_model.reason = lambda images, rows, temperature, seeds: (
        asked.append(seeds) or [Trace((5, 6), truncated=True) for _ in rows]
    )
    items = [replace(item, number=4), replace(item, number=9)]
    for step in (0, 3):
        trainer.state.global_step = step
        trainer._roll_out(trainer.collate(items))
        expected = []
        for number in (4, 9):
            for side in (0, 1):
                for place in (0, 1):
                    expected.append(seed_of(trainer.args.seed, step, number, side, place))
        assert asked[-1] == expected and len(set(expected)) == 8
    by_batch = make_trainer(seed_by="batch")
    by_batch.reward_model.reason = trainer.reward_model.reason
    by_batch._roll_out(by_batch.collate(items))
    assert asked[-1] is None


@pytest.mark.parametrize(
    ("size", "alone", "beside"), [(2, [2, 2] * 2, [2, 2, 1, 1, 1, 1] * 2), (4, [4], [4, 1, 1] * 2)]
)
@pytest.mark.parametrize("method", ["grpo", "gdso"])
def test_passes_that_keep_another_process_company_count_nothing(make_trainer, method, size, alone, beside):
    """A roll-out of half the mean number of items, beside one of three times as many sequences."""
    steps = {}
    for more in ({}, {WEIGHT: 0.5, MOST: 3}):
        torch.manual_seed(0)
        trainer = make_trainer(sequences_per_forward=size)
        trainer.objective, trainer.current_gradient_accumulation_steps = OBJECTIVES[method], 1
        trainer.reward_model.reason = lambda images, rows, *how: [Trace((5, 6 + n), True) for n in range(len(rows))]
        passes, forward = [], trainer.model.forward
        trainer.model.forward = lambda batch, *rest: passes.append(len(batch)) or forward(batch, *rest)  # noqa: B023
        loss = trainer.training_step(trainer.model, trainer.collate(list(trainer.train_dataset)) | more)
        assert trainer.counted == more.get(WEIGHT, 1.0)
        gradients = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
        steps[bool(more)] = (loss.item(), gradients, passes)
    (loss, gradients, passes), (half, halves, longer) = steps[False], steps[True]
    assert passes == alone and longer == beside
    assert half == pytest.approx(loss / 2, rel=1e-5)
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-5
    for one, other in zip(gradients, halves, strict=True):
        torch.testing.assert_close(other, one / 2, rtol=1e-4, atol=1e-7)


def test_sequences_of_the_fullest_process_are_counted_from_its_items(make_trainer):
    trainer = make_trainer()
    batch = trainer.collate([*trainer.train_dataset, *trainer.train_dataset])  # two items of two sides of two traces
    for more, weight, most in (({}, 1.0, 8), ({WEIGHT: 0.5, MOST: 3}, 0.5, 12)):
        made = trainer._roll_out(batch | more)
        assert (len(made.inputs), made.weight, made.most) == (8, weight, most)
    alone = _Rollout(inputs(4), [], [], 1)
    assert (alone.weight, alone.most) == (1.0, 0)


def test_the_first_items_of_a_batch_have_their_pictures(make_trainer):
    trainer = make_trainer()
    (item,) = trainer.train_dataset
    batch = trainer.collate([item, replace(item, records=item.records[::-1]), item])
    part = trainer.first_of(batch, 2)
    assert part["items"] == batch["items"][:2] and len(part["shown"]) == 4
    assert all(one is other for one, other in zip(part["shown"], batch["shown"], strict=False))
    assert trainer.indices_of_an_epoch() == 1


def test_a_written_score_is_drawn_by_its_traces_own_seed(make_trainer):
    """The same whatever stands beside it in the batch, and once per roll-out."""
    trainer = make_trainer(reward_from="parsed")
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    seeds = [seed_of(0, 0, 0, side, place) for side in (0, 1) for place in (0, 1)]
    made = rollout()
    made.seeds = seeds
    trainer._sample_labels(made, logits)
    expected = []
    for row, seed in zip(logits.double().tolist(), seeds, strict=True):
        digest = hashlib.sha256(f"{seed}/label".encode()).digest()
        own = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)
        uniform = torch.empty(1, dtype=torch.float64).uniform_(generator=own).item()
        weights = [math.exp(value / trainer.options.temperature) for value in row]
        below = [sum(weights[: n + 1]) / sum(weights) for n in range(9)]
        expected.append(next(n for n, value in enumerate(below) if value > uniform))
    assert made.labels.tolist() == expected and len(set(expected)) > 2
    trainer._sample_labels(made, logits.flip(0))
    assert made.labels.tolist() == expected


@pytest.mark.parametrize(("limit", "stops"), [(None, False), (0.5, False), (0.499, True)])
def test_a_divergence_up_to_the_limit_goes_on(make_trainer, monkeypatch, limit, stops):
    trainer = make_trainer(beta=0.1, max_kl=limit)
    found = {"reference_kl": torch.tensor(0.5)}
    monkeypatch.setattr(rollout_module, "divergences", lambda output, sequences, options: found)
    if not stops:
        assert trainer._divergences(None, None) is found
        return
    said = r"step 0: reference_kl is 0.5 per token, above rollout.max_kl \(0.499\). There is no checkpoint yet"
    with pytest.raises(FloatingPointError, match=said):
        trainer._divergences(None, None)


def test_a_roll_out_is_watched(make_trainer, monkeypatch):
    watched = []

    @contextmanager
    def watchdog(what, seconds, advice):
        watched.append((what, seconds, advice))
        yield
        watched.append("done")

    monkeypatch.setattr(rollout_module, "watchdog", watchdog)
    trainer = make_trainer(stall_after=7.0)
    trainer._roll_out(trainer.collate(list(trainer.train_dataset)))
    advice = "rollout.stall_after says so. There is no checkpoint yet: start again"
    assert watched == [("a roll-out", 7.0, advice), "done"]


class Steps(TrainerCallback):
    """Puts the model into evaluation mode before every step, as a dev curve might, and notes its mode at the update."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def on_step_begin(self, args, state, control, model=None, **kwargs) -> None:
        model.eval()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        self.modes.append(model.training)


def watch(trainer: RolloutTrainer, *names: str) -> list[str]:
    """Calls of these methods of the accelerator and of the policy's forward pass, in their order."""
    seen = []

    def noted(name, original):
        return lambda *args, **kwargs: (seen.append(name), original(*args, **kwargs))[1]

    for name in names:
        setattr(trainer.accelerator, name, noted(name, getattr(trainer.accelerator, name)))
    network = trainer.reward_model.backbone
    network.forward = noted("forward", network.forward)
    return seen


def test_a_step_passes_every_sequence_once_and_in_training_mode(make_trainer):
    """One micro-batch, one update: its scores, its rewards and its gradient come from one and the same pass."""
    trainer, steps = make_trainer(), Steps()
    trainer.add_callback(steps)
    seen = watch(trainer, "backward")
    trainer.train()
    assert seen == ["forward", "backward"] * 2 and steps.modes == [True, True]


def test_processes_exchange_gradients_with_the_last_micro_batch_only(make_trainer):
    trainer = make_trainer(sequences_per_forward=2)
    seen = watch(trainer, "no_sync", "backward")
    trainer.train()
    scores = ["forward"] * 2  # all rewards are known before the first gradient
    assert seen == [*scores, "no_sync", "forward", "backward", "forward", "backward"] * 2


def test_what_a_roll_out_keeps_carries_no_gradient(make_trainer):
    trainer = make_trainer(beta=0.1, updates_per_rollout=2, reward_from="parsed")
    losses, original = [], trainer.training_step

    def step(*args, **kwargs):
        losses.append(original(*args, **kwargs))
        return losses[-1]

    supervised, supervise = [], trainer._supervise
    trainer._supervise = lambda *args: (supervised.append(supervise(*args)), supervised[-1])[1]
    trainer.training_step = step
    trainer.train()
    (rollout,) = trainer._kept
    kept = [value for each in (rollout, *supervised) for value in vars(each).values()]
    tensors = [value for value in kept if isinstance(value, torch.Tensor)]
    assert len(tensors) > 10 and not any(tensor.requires_grad for tensor in [*tensors, *losses])
