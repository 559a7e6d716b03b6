"""The roll-out trainer (GRPO, GDSO): sample traces, decode distributions, reward, update.

Shapes: B pairs, J = 2 sides (winner first), G traces per side, M = B * J * G sequences in that order, S bins, T tokens.
The methods differ only in the objective they hand over. Direct losses and the policy gradient share one forward pass.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from zreward.data import Pair, Record
from zreward.models.backbone import BackboneOutput, ModelInput
from zreward.models.reward_model import RewardModel, Row
from zreward.models.rollout import Trace
from zreward.objectives import (
    gdso_loss,
    group_advantages,
    grpo_loss,
    pairwise_reward,
    pointwise_cross_entropy,
    pointwise_reward,
    score_gap_terms_detached,
)
from zreward.training.recipe import RolloutRecipe
from zreward.training.trainer_base import RewardTrainer


@dataclass(frozen=True)
class PairItem:
    """A same-prompt pair on one dimension, winner first, with annotated scores and target distributions."""

    records: tuple[Record, Record]
    dimension: str
    scores: tuple[float, float]
    targets: Tensor  # (2, S)


def pair_items(records: list[Record], pairs: list[Pair], model: RewardModel, smoothing: float) -> list[PairItem]:
    """Mined pairs (indices) as training instances."""
    items = []
    for pair in pairs:
        sides = (records[pair.winner], records[pair.loser])
        winner, loser = (side.score(pair.dimension) for side in sides)
        targets = [side.target(pair.dimension, model.rubric.scale, smoothing) for side in sides]
        assert winner is not None and loser is not None, "pairs are mined among rated records"
        rated = torch.stack([target for target in targets if target is not None])
        items.append(PairItem(sides, pair.dimension, (winner, loser), rated))
    return items


@dataclass(frozen=True)
class Sequences:
    """M sequences of a roll-out (or a slice of them), with everything an objective needs."""

    inputs: ModelInput
    advantages: Tensor  # (M,)
    score: Tensor  # (M,) the annotated score of each sequence's side
    target: Tensor  # (M, S)
    partner_mu: Tensor  # (M, G): the other side's expected scores, under the present weights
    partner_score: Tensor  # (M,)
    old_log_probs: Tensor | None = None  # (M, T), from the second update on
    ref_log_probs: Tensor | None = None  # (M, T), when beta > 0


Objective = Callable[[BackboneOutput, Tensor, Sequences, RolloutRecipe, Any], tuple[Tensor, dict[str, Tensor]]]


def grpo_objective(output, mu, sequences, recipe, scale):
    """Eq. 4: the policy gradient alone."""
    loss = _policy_loss(output, sequences, recipe)
    return loss, {"policy_loss": loss}


def gdso_objective(output, mu, sequences, recipe, scale):
    """Eq. 14, with the gap loss in its separable form: gradient of (11), twice its value."""
    policy = _policy_loss(output, sequences, recipe)
    pointwise = pointwise_cross_entropy(output.score_logits.log_softmax(-1), sequences.target)
    gap = score_gap_terms_detached(
        mu[:, None], sequences.partner_mu, sequences.score, sequences.partner_score, scale
    ).mean()
    parts = {"policy_loss": policy, "pointwise_loss": pointwise, "gap_loss": gap / 2}
    return gdso_loss(policy, pointwise, gap, recipe.alpha_pt, recipe.alpha_pw), parts


OBJECTIVES: dict[str, Objective] = {"grpo": grpo_objective, "gdso": gdso_objective}


def _policy_loss(output: BackboneOutput, sequences: Sequences, recipe: RolloutRecipe) -> Tensor:
    assert output.trace_log_probs is not None and sequences.inputs.trace_mask is not None, "roll-outs have traces"
    return grpo_loss(
        output.trace_log_probs,
        sequences.advantages,
        sequences.inputs.trace_mask,
        sequences.old_log_probs,
        sequences.ref_log_probs,
        recipe.beta,
        recipe.clip,
    )


class RolloutTrainer(RewardTrainer):
    """Group-relative training on same-prompt pairs: Algorithm 1 with one outer iteration (the reference is the start)."""

    def __init__(self, reward_model: RewardModel, recipe, run: Path, items: list[PairItem], callbacks=()) -> None:
        self.objective: Objective = OBJECTIVES[recipe.method]
        self.options: RolloutRecipe = recipe.rollout
        self.scale = reward_model.rubric.scale
        self._kept: list[_Rollout] = []  # roll-outs of this optimizer step's micro-batches, while they are reused
        self._micro = 0
        self._pairs = len(items)
        self._reference: Any = None
        if self.options.beta > 0 and not hasattr(reward_model.backbone.model, "peft_config"):
            self._reference = copy.deepcopy(reward_model.backbone).eval().requires_grad_(False)
        super().__init__(reward_model, recipe, run, items, callbacks)

    def collate(self, items: list[PairItem]) -> dict[str, Any]:
        return {"pairs": items, "images": [self.reward_model.open(r.image) for item in items for r in item.records]}

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        block = self.args.per_device_train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return RepeatSampler(self._pairs, block, self.options.updates_per_rollout, self.args.seed)

    def training_step(self, model, inputs: dict[str, Any], num_items_in_batch=None) -> Tensor:
        rollout = self._rollout_for(inputs)
        model.train()
        total = torch.zeros((), device=self.args.device)
        chunks = list(self._chunks(rollout))
        for index, (rows, sequences) in enumerate(chunks):
            hold = contextlib.nullcontext() if index == len(chunks) - 1 else self.accelerator.no_sync(model)
            with hold:
                output = model(sequences.inputs, self.options.temperature)
                mu = self._expected(output.score_logits)
                if len(chunks) == 1:
                    rollout = self._decoded(rollout, mu.detach(), output.trace_log_probs.detach())
                    sequences = rollout.sequences
                loss, parts = self.objective(output, mu, sequences, self.options, self.scale)
                self.refuse_nan(loss)
                share = (rows.stop - rows.start) / len(rollout.inputs)
                self.accelerator.backward(loss * share / self.current_gradient_accumulation_steps)
            total += loss.detach() * share
            self.record(**{name: value.detach() for name, value in parts.items()})
        self._log_rollout(rollout)
        return total / self.current_gradient_accumulation_steps

    # Sampling and decoding.

    def _rollout_for(self, batch: dict[str, Any]) -> _Rollout:
        """A fresh roll-out for this micro-batch, or the kept one when this optimizer step reuses it."""
        repeats, accumulation = self.options.updates_per_rollout, self.args.gradient_accumulation_steps
        if repeats == 1:
            return self._roll_out(batch)
        place = self._micro % (repeats * accumulation)
        self._micro += 1
        if place == 0:
            self._kept = []
        if place < accumulation:
            self._kept.append(self._with_old(self._roll_out(batch)))
        return self._kept[place % accumulation]

    def _roll_out(self, batch: dict[str, Any]) -> _Rollout:
        pairs, images, G = batch["pairs"], batch["images"], self.options.group_size
        rows = [
            Row(2 * b + j, pair.records[j].prompt, pair.dimension)
            for b, pair in enumerate(pairs)
            for j in range(2)
            for _ in range(G)
        ]
        was_training = self.reward_model.training
        self.reward_model.eval()
        traces = self.reward_model.reason(images, rows, self.options.temperature)
        self.reward_model.train(was_training)
        rows = [replace(row, trace=trace) for row, trace in zip(rows, traces, strict=True)]
        inputs = self.reward_model.collate(images, rows).to(self.args.device)
        score_BJ = torch.tensor([pair.scores for pair in pairs], device=self.args.device)
        target_BJS = torch.stack([pair.targets for pair in pairs]).to(self.args.device)
        return _Rollout(inputs, traces, score_BJ, target_BJS, G)

    @torch.no_grad()
    def _with_old(self, rollout: _Rollout) -> _Rollout:
        """Keep the sampling policy's log-probabilities: the ratio's denominator in later updates."""
        return replace(rollout, old_log_probs=self._decode(rollout)[1])

    @torch.no_grad()
    def _decode(self, rollout: _Rollout, module=None) -> tuple[Tensor, Tensor]:
        """Expected scores (M,) and trace log-probabilities (M, T) under the present weights, in micro-batches."""
        network: Any = module or self.model
        mus, log_probs = [], []
        for rows in self._slices(rollout):
            output = network(_rows(rollout.inputs, rows), self.options.temperature)
            mus.append(self._expected(output.score_logits))
            log_probs.append(output.trace_log_probs)
        return torch.cat(mus), torch.cat(log_probs)

    def _decoded(self, rollout: _Rollout, mu_M: Tensor, log_probs: Tensor | None = None) -> _Rollout:
        """Rewards, advantages and partners from the expected scores of all sequences (Eq. 3, 7, 10, 13)."""
        mu_BJG = mu_M.view(*rollout.score_BJ.shape, rollout.group_size)
        other_BJG, other_score_BJ = mu_BJG.flip(1), rollout.score_BJ.flip(1)
        reward_BJG = self.options.lambda_pt * pointwise_reward(mu_BJG, rollout.score_BJ, self.scale)
        if self.recipe.method == "gdso":
            pairwise = pairwise_reward(mu_BJG, other_BJG, rollout.score_BJ, other_score_BJ, self.scale)
            reward_BJG = reward_BJG + self.options.lambda_pw * pairwise
        if rollout.advantages_BJG is not None:
            advantages_BJG = rollout.advantages_BJG  # a reused roll-out keeps the advantages it was sampled with
        else:
            advantages_BJG = group_advantages(reward_BJG, divide_by_std=self.options.divide_by_std)
        rollout.advantages_BJG = advantages_BJG
        G = rollout.group_size
        rollout.reward_BJG, rollout.mu_BJG = reward_BJG, mu_BJG
        rollout.sequences = Sequences(
            rollout.inputs,
            advantages_BJG.flatten(),
            rollout.score_BJ.flatten().repeat_interleave(G),
            rollout.target_BJS.flatten(0, 1).repeat_interleave(G, 0),
            other_BJG.flatten(0, 1).repeat_interleave(G, 0),
            other_score_BJ.flatten().repeat_interleave(G),
            rollout.old_log_probs,
            self._reference_log_probs(rollout),
        )
        return rollout

    def _reference_log_probs(self, rollout: _Rollout) -> Tensor | None:
        if self.options.beta == 0:
            return None
        if rollout.ref_log_probs is None:
            if self._reference is not None:
                rollout.ref_log_probs = self._decode(rollout, self._reference)[1]
            else:
                with self.accelerator.unwrap_model(self.model).model.disable_adapter():
                    rollout.ref_log_probs = self._decode(rollout)[1]
        return rollout.ref_log_probs

    def _chunks(self, rollout: _Rollout) -> Iterator[tuple[slice, Sequences]]:
        """Micro-batches of sequences. One chunk decodes in its own training pass; several need the partners' mu first."""
        slices = self._slices(rollout)
        if len(slices) == 1:
            yield slices[0], Sequences(rollout.inputs, *([torch.empty(0)] * 5))
            return
        sequences = self._decoded(rollout, self._decode(rollout)[0]).sequences
        for rows in slices:
            yield rows, _slice(sequences, rows)

    def _slices(self, rollout: _Rollout) -> list[slice]:
        total = len(rollout.inputs)
        size = self.options.sequences_per_forward or total
        return [slice(start, min(start + size, total)) for start in range(0, total, size)]

    def _expected(self, score_logits: Tensor) -> Tensor:
        return score_logits.softmax(-1) @ self.scale.bins.to(score_logits)

    def _log_rollout(self, rollout: _Rollout) -> None:
        mu_BJG = rollout.mu_BJG
        self.record(
            reward=rollout.reward_BJG.mean(),
            group_spread=mu_BJG.std(-1).mean(),  # what dividing by the reward's deviation amplifies when it shrinks
            trace_tokens=sum(len(trace) for trace in rollout.traces) / len(rollout.traces),
            truncated=sum(trace.truncated for trace in rollout.traces) / len(rollout.traces),
            absolute_error=(mu_BJG - rollout.score_BJ[..., None]).abs().mean(),
        )


@dataclass
class _Rollout:
    inputs: ModelInput
    traces: list[Trace]
    score_BJ: Tensor
    target_BJS: Tensor
    group_size: int
    old_log_probs: Tensor | None = None
    ref_log_probs: Tensor | None = None
    advantages_BJG: Tensor | None = None
    reward_BJG: Tensor = field(init=False)
    mu_BJG: Tensor = field(init=False)
    sequences: Sequences = field(init=False)


class RepeatSampler(Sampler):
    """Shuffled indices in blocks (one optimizer step's pairs); every block comes `repeats` times in a row."""

    def __init__(self, size: int, block: int, repeats: int, seed: int) -> None:
        self.size, self.block, self.repeats, self.seed, self.epoch = size, min(block, size), repeats, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        for start in range(0, self.size - self.block + 1, self.block):
            for _ in range(self.repeats):
                yield from order[start : start + self.block]

    def __len__(self) -> int:
        return self.size // self.block * self.block * self.repeats


def _rows(inputs: ModelInput, rows: slice) -> ModelInput:
    """A slice of rows; all images stay, rows point into them."""
    trace = None if inputs.trace_mask is None else inputs.trace_mask[rows]
    return replace(
        inputs,
        input_ids=inputs.input_ids[rows],
        attention_mask=inputs.attention_mask[rows],
        row_image=inputs.row_image[rows],
        trace_mask=trace,
    )


def _slice(sequences: Sequences, rows: slice) -> Sequences:
    parts = {k: v[rows] for k, v in vars(sequences).items() if isinstance(v, Tensor)}
    return replace(sequences, inputs=_rows(sequences.inputs, rows), **parts)
