"""The roll-out trainer (GRPO, GDSO, OPD): sample traces, decode distributions, reward, update.

Shapes: B items, J sides (2 of a pair, winner first; 1 for OPD), G traces per side, M = B * J * G sequences in that order,
S bins, T tokens. The methods differ only in their objective. Direct losses and the policy gradient share one forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.common.runs import RunDirectory
from zreward.common.watchdog import watchdog
from zreward.data import Record
from zreward.evaluation.coupling_edits import find_editor
from zreward.models.backbone import Backbone, BackboneOutput
from zreward.models.draws import draw, seed_of, uniforms
from zreward.models.inputs import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.objectives import group_advantages
from zreward.sampling.sampler import EngineSampler
from zreward.training.edited_traces import EditedTraces
from zreward.training.engines import backward, gradients_go_on, place_frozen
from zreward.training.preferred_rollouts import Voted
from zreward.training.recipe import RolloutRecipe
from zreward.training.rollout_data import RepeatSampler, RolloutItem, rows_of_sides
from zreward.training.rollout_engine import CANARIES, start_sampler
from zreward.training.rollout_objectives import (
    OBJECTIVES,
    Objective,
    Sequences,
    divergences,
    sampled_log_probs,
    sampled_tokens,
)
from zreward.training.trainer_base import MOST, WEIGHT, RewardTrainer


class RolloutTrainer(RewardTrainer):
    """Training on the model's own traces: Algorithm 1 with one outer iteration (the reference is the start).

    `teacher` is OPD's: it must read the same token ids as the student.
    """

    _kept: list[_Rollout]  # roll-outs of this optimizer step's micro-batches, while they are reused

    def __init__(
        self,
        reward_model: RewardModel,
        recipe,
        run: RunDirectory,
        items: Sequence[RolloutItem],
        callbacks=(),
        teacher: RewardModel | None = None,
        objective: Objective | None = None,
    ) -> None:
        self.objective: Objective = objective or OBJECTIVES[recipe.method]
        self.options: RolloutRecipe = recipe.rollout
        self.scale = reward_model.rubric.scale
        self.teacher = teacher
        self.samples_label = self.objective.samples_label(self.options)
        self.sampler: EngineSampler | None = None  # rollout.engine vllm, once training begins
        self._synced: int | None = None  # the step whose weights it has
        self._micro = 0
        self._items, self._first = len(items), items[:CANARIES]
        self._reference: Any = None
        if self.options.beta > 0 and not hasattr(reward_model.backbone.model, "peft_config"):
            self._reference = copy.deepcopy(reward_model.backbone).eval().requires_grad_(False)
        super().__init__(reward_model, recipe, run, items, callbacks)

    def prepare_device(self) -> None:
        super().prepare_device()
        if self.options.engine == "vllm":
            self.sampler = start_sampler(self.reward_model, self.recipe, self._first, self.accelerator)

    def run_to_end(self, checkpoint: Path | None) -> None:
        try:
            super().run_to_end(checkpoint)
        finally:
            if self.sampler is not None:
                self.sampler.close()

    def collate(self, items: list[RolloutItem]) -> dict[str, Any]:
        shown = [tuple(map(self.reward_model.decode, r.pictures)) for item in items for r in item.records]
        return {"items": items, "shown": shown}

    def first_of(self, batch: dict[str, Any], count: int) -> dict[str, Any]:
        items = batch["items"][:count]
        return {"items": items, "shown": batch["shown"][: sum(len(item.records) for item in items)]}

    def _get_train_sampler(self, train_dataset=None) -> RepeatSampler:
        block = self.args.per_device_train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return RepeatSampler(self._items, block, self.options.updates_per_rollout, self.args.seed)

    def indices_of_an_epoch(self) -> int:
        return len(self._get_train_sampler())

    def training_step(self, model, inputs: dict[str, Any], num_items_in_batch=None) -> Tensor:
        rollout = self._rollout_for(inputs)
        self.counted = rollout.weight
        model.train()
        total = torch.zeros((), device=self.args.device)
        slices = self._slices(rollout)
        if len(slices) > 1:  # several micro-batches need all sequences' scores before the first of them
            sequences = self._supervise(rollout, self._decode(rollout)[0])
        coupled = rollout.edited is not None
        for index, rows in enumerate(slices):
            with gradients_go_on(self.accelerator, model, more=coupled or index < len(slices) - 1):
                output = model(rollout.inputs.rows(rows), self.options.temperature)
                if len(slices) == 1:  # one micro-batch decodes in its own training pass
                    sequences = self._supervise(rollout, output.score_logits)
                mu = self._expected(output.score_logits)
                part = sequences.rows(rows)
                loss, parts = self.objective(output, mu, part, self.options, self.scale)
                self.refuse_nan(loss)
                parts |= self._divergences(output, part)
                share = self._share(rollout, index, rows)
                backward(self.accelerator, loss * share / self.current_gradient_accumulation_steps)
            total += loss.detach() * share
            self.record(**{name: value.detach() for name, value in parts.items()})
        if coupled:
            total += self._couple(model, rollout, slices)
        self._log_rollout(rollout)
        return total / self.current_gradient_accumulation_steps

    def _share(self, rollout: _Rollout, index: int, rows: slice) -> float:
        """The part of a step's loss that these sequences have."""
        if index > 0 and rows.start == 0:  # keeps another process company
            return 0.0
        return (rows.stop - rows.start) / len(rollout.inputs) * rollout.weight

    def _couple(self, model, rollout: _Rollout, slices: list[slice]) -> Tensor:
        """The coupling term's gradient, in passes of its own; returns its part of the loss."""
        edited, total = rollout.edited, torch.zeros((), device=self.args.device)
        assert edited is not None and rollout.mu_M is not None, "asked for with the coupling term, after the rewards"
        for index, rows in enumerate(slices):
            with gradients_go_on(self.accelerator, model, more=index < len(slices) - 1):
                mu = self._expected(model(edited.inputs.rows(rows)).score_logits)
                loss, parts = edited.loss(mu, rollout.mu_M, rows, self.options.coupling_margin, self.scale)
                self.refuse_nan(loss)
                loss = self.options.coupling_weight * loss * self._share(rollout, index, rows)
                backward(self.accelerator, loss / self.current_gradient_accumulation_steps)
            total += loss.detach()
            self.record(**{name: value.detach() for name, value in parts.items()})
        return total

    # Sampling.

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
        items, shown, G = batch["items"], batch["shown"], self.options.group_size
        sides = [(record, item.dimension) for item in items for record in item.records]
        images, rows = [image for mine in shown for image in mine], rows_of_sides(sides, G)
        seeds = self._seeds(items) if self.options.seed_by == "item" else None
        with watchdog("a roll-out", self.options.stall_after, f"rollout.stall_after says so. {self.last_good()}"):
            traces, log_probs = self._sample(images, rows, seeds)
        rows = [replace(row, trace=trace) for row, trace in zip(rows, traces, strict=True)]
        inputs = replace(self.reward_model.collate(images, rows), share=self.shares).to(self.args.device)
        rated: dict[str, Tensor] = {}
        if self.teacher is None:
            targets = [item.targets for item in items if item.targets is not None]
            rated["score_BJ"] = torch.tensor([item.scores for item in items], device=self.args.device)
            rated["target_BJS"] = torch.stack(targets).to(self.args.device)
        voted = Voted.among(items, self.args.device)
        if log_probs is not None:
            assert inputs.trace_mask is not None, "roll-outs have traces"
            mask = inputs.trace_mask.bool()
            given = torch.tensor(log_probs, device=mask.device)
            rated["sampler_log_probs"] = given.new_zeros(mask.shape).masked_scatter(mask, given)
        most = batch.get(MOST, len(items)) * len(inputs) // len(items)
        records, weight = [record for record, _ in sides], batch.get(WEIGHT, 1.0)
        edited = self._edited(images, rows, seeds) if self.options.coupling_weight else None
        return _Rollout(inputs, rows, records, G, seeds, weight, most, voted=voted, edited=edited, **rated)

    def _edited(self, images: list[Tensor], rows: list[Row], seeds: list[int] | None) -> EditedTraces:
        if seeds is None:
            begin = (self.args.seed, self.state.global_step, self.args.process_index, self._micro)
            seeds = [seed_of(*begin, number) for number in range(len(rows))]
        edited = EditedTraces.of(self.reward_model, images, rows, find_editor(self.options.coupling_editor), seeds)
        return replace(edited, inputs=replace(edited.inputs, share=self.shares).to(self.args.device))

    def _sample(
        self, images: list[Tensor], rows: list[Row], seeds: list[int] | None
    ) -> tuple[list[Trace], list[float] | None]:
        """Traces, and the log-probabilities of all their tokens where an engine with a copy of the weights sampled them."""
        if self.sampler is None:
            return self.reward_model.reason(images, rows, self.options.temperature, seeds), None
        if self._synced != self.state.global_step:
            self.record(engine_difference=self.sampler.sync())
            self._synced = self.state.global_step
        sampled = self.sampler.reason(images, rows, self.options.temperature, seeds)
        return [one.trace for one in sampled], [value for one in sampled for value in one.log_probs]

    def _seeds(self, items: list[RolloutItem]) -> list[int]:
        """One for each of the M sequences, by step, item, side and place in the group."""
        sides = [(item.number, side) for item in items for side in range(len(item.records))]
        begin, G = (self.args.seed, self.state.global_step), self.options.group_size
        return [seed_of(*begin, number, side, place) for number, side in sides for place in range(G)]

    def _with_old(self, rollout: _Rollout) -> _Rollout:
        """Keep the sampling policy's log-probabilities: the ratio's denominator in later updates."""
        rollout.old_log_probs = self._decode(rollout)[1]
        return rollout

    @torch.no_grad()
    def _decode(self, rollout: _Rollout, module=None) -> tuple[Tensor, Tensor]:
        """Score logits (M, S) and the sampled tokens' log-probabilities (M, T) under the present weights (or `module`'s)."""
        network: Any = module or self.model
        outputs = [network(rollout.inputs.rows(rows), self.options.temperature) for rows in self._slices(rollout)]
        score_logits = torch.cat([output.score_logits for output in outputs])[: len(rollout.inputs)]
        self._sample_labels(rollout, score_logits)
        log_probs = []
        for rows, output in zip(self._slices(rollout), outputs, strict=True):
            labels = None if rollout.labels is None else rollout.labels[rows]
            log_probs.append(sampled_log_probs(output, labels, self.options.temperature))
        return score_logits, torch.cat(log_probs)[: len(rollout.inputs)]

    def _sample_labels(self, rollout: _Rollout, score_logits_MS: Tensor) -> None:
        """Let the policy write its score, once per roll-out, where the method wants a written score."""
        if self.samples_label and rollout.labels is None:
            probs = (score_logits_MS / self.options.temperature).softmax(-1)
            if rollout.seeds is None:
                rollout.labels = torch.multinomial(probs, 1).squeeze(1)
            else:
                own = uniforms([seed_of(seed, "label") for seed in rollout.seeds], 1)[:, 0]
                rollout.labels = draw(probs, own.to(probs.device))

    # What the objective compares the sequences with.

    @torch.no_grad()
    def _supervise(self, rollout: _Rollout, score_logits_MS: Tensor) -> Sequences:
        self._sample_labels(rollout, score_logits_MS)
        common = Sequences(
            rollout.inputs,
            rollout.labels,
            old_log_probs=rollout.old_log_probs,
            sampler_log_probs=rollout.sampler_log_probs,
        )
        if self.teacher is not None:
            return replace(common, teacher_log_probs=self._teacher_log_probs(rollout))
        return self._reward(rollout, score_logits_MS, common)

    def _reward(self, rollout: _Rollout, score_logits_MS: Tensor, common: Sequences) -> Sequences:
        """Rewards, advantages and partners from the scores of all sequences (Eq. 3, 7, 10, 13)."""
        G, score_BJ, target_BJS = rollout.group_size, rollout.score_BJ, rollout.target_BJS
        assert score_BJ is not None and target_BJS is not None, "rewards come from ratings"
        mu_BJG = self._expected(score_logits_MS).view(*score_BJ.shape, G)
        rollout.mu_M = mu_BJG.flatten()
        said_BJG = mu_BJG  # what is rewarded: the expectation, or the score as written
        if rollout.labels is not None:
            said_BJG = self.scale.bins.to(mu_BJG)[rollout.labels].view(*score_BJ.shape, G)
        reward_BJG = self.objective.reward(said_BJG, score_BJ, self.options, self.scale)
        error_BJG = (mu_BJG - score_BJ[..., None]).abs()
        if rollout.voted is not None:
            error_BJG = error_BJG[~rollout.voted.is_B]
            common = self._reward_votes(rollout, rollout.voted, score_logits_MS, reward_BJG, common)
        if rollout.advantages_BJG is None:  # a reused roll-out keeps the advantages it was sampled with
            rollout.advantages_BJG = group_advantages(reward_BJG, divide_by_std=self.options.divide_by_std)
            if rollout.voted is not None:
                rollout.advantages_BJG[rollout.voted.is_B] *= self.recipe.data.preferences_weight
        self.record(
            reward=reward_BJG.mean(),
            group_spread=mu_BJG.std(-1).mean(),  # what dividing by the reward's deviation amplifies when it shrinks
        )
        if len(error_BJG):
            self.record(absolute_error=error_BJG.mean())
        return replace(
            common,
            advantages=rollout.advantages_BJG.flatten(),
            score=score_BJ.flatten().repeat_interleave(G),
            target=target_BJS.flatten(0, 1).repeat_interleave(G, 0),
            partner_mu=mu_BJG.flip(1).flatten(0, 1).repeat_interleave(G, 0),
            partner_score=score_BJ.flip(1).flatten().repeat_interleave(G),
            ref_log_probs=self._reference_log_probs(rollout),
        )

    def _reward_votes(
        self, rollout: _Rollout, voted: Voted, score_logits_MS: Tensor, reward_BJG: Tensor, common: Sequences
    ) -> Sequences:
        """Rewards, in place, of the pairs that have votes only; returns `common` with what their losses need."""
        log_probs_BJGS = score_logits_MS.log_softmax(-1).view(*reward_BJG.shape, -1)
        said_BJGS = log_probs_BJGS.exp()
        if rollout.labels is not None:
            said_BJGS = F.one_hot(rollout.labels, len(self.scale)).view(said_BJGS.shape).to(said_BJGS)
        reward = voted.rewards(said_BJGS)
        reward_BJG[voted.is_B] = (self.options.lambda_pt + self.options.lambda_pw) * reward
        self.record(win_rate_error=(1 - reward).mean())
        return replace(common, voted=voted.sequences(log_probs_BJGS, self.recipe.data.preferences_weight))

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

    @cached_property
    def _placed_teacher(self) -> Backbone:
        assert self.teacher is not None
        place_frozen(self.accelerator, self.teacher.backbone)
        return self.teacher.backbone

    def _teacher_log_probs(self, rollout: _Rollout) -> Tensor:
        """The teacher's log-probabilities of the student's tokens, at the student's places (its images may be longer)."""
        assert self.teacher is not None and rollout.labels is not None, "OPD has a teacher and samples its score"
        if rollout.teacher_log_probs is None:
            images = [self.teacher.decode(picture) for record in rollout.records for picture in record.pictures]
            inputs = replace(self.teacher.collate(images, rollout.rows), share=self.shares).to(self.args.device)
            assert inputs.trace_mask is not None and rollout.inputs.trace_mask is not None, "roll-outs have traces"
            mask, found, teacher = rollout.inputs.trace_mask.bool(), [], self._placed_teacher
            for rows in self._slices(rollout):
                part = inputs.rows(rows)
                output = teacher(part, self.options.temperature)
                log_probs, sampled = sampled_tokens(output, part, rollout.labels[rows], self.options.temperature)
                of_trace = log_probs[:, :-1][sampled[:, :-1]]
                trace = log_probs.new_zeros(mask[rows].shape).masked_scatter(mask[rows], of_trace)
                found.append(torch.cat([trace, log_probs[:, -1:]], 1))
            rollout.teacher_log_probs = torch.cat(found)[: len(rollout.inputs)]
        return rollout.teacher_log_probs

    def _divergences(self, output: BackboneOutput, sequences: Sequences) -> dict[str, Tensor]:
        """KL per token to the starting model and to the sampling policy, where their log-probabilities are known."""
        found = divergences(output, sequences, self.options)
        for name, value in found.items():
            if self.options.max_kl is not None and not value <= self.options.max_kl:
                raise FloatingPointError(
                    f"step {self.state.global_step}: {name} is {value.item():.4g} per token, above rollout.max_kl "
                    f"({self.options.max_kl:g}). {self.last_good()}"
                )
        return found

    def _slices(self, rollout: _Rollout) -> list[slice]:
        """Rows of a pass each; then the first row, while other processes still need this one's shard of the weights."""
        total = len(rollout.inputs)
        most = max(total, rollout.most)
        size = self.options.sequences_per_forward or most
        return [slice(n, min(n + size, total)) if n < total else slice(0, 1) for n in range(0, most, size)]

    def _expected(self, score_logits: Tensor) -> Tensor:
        return score_logits.softmax(-1) @ self.scale.bins.to(score_logits)

    def _log_rollout(self, rollout: _Rollout) -> None:
        traces = [row.trace for row in rollout.rows if row.trace is not None]
        self.record(
            trace_tokens=sum(len(trace) for trace in traces) / len(traces),
            truncated=sum(trace.truncated for trace in traces) / len(traces),
        )


@dataclass
class _Rollout:
    inputs: ModelInput
    rows: list[Row]  # with their traces
    records: list[Record]  # one per side
    group_size: int
    seeds: list[int] | None = None  # (M,): each sequence's own, or none
    weight: float = 1.0  # its number of items over the mean of all processes
    most: int = 0  # sequences of the process that has most
    voted: Voted | None = None  # which of the items have votes instead of scores
    score_BJ: Tensor | None = None  # when rated
    target_BJS: Tensor | None = None
    labels: Tensor | None = None  # (M,): score bins, when the policy wrote its score
    old_log_probs: Tensor | None = None
    sampler_log_probs: Tensor | None = None  # when an engine sampled the traces
    ref_log_probs: Tensor | None = None
    teacher_log_probs: Tensor | None = None
    advantages_BJG: Tensor | None = None
    edited: EditedTraces | None = None  # with the coupling term
    mu_M: Tensor | None = None  # expected scores under the present weights, as of the last `_reward`
