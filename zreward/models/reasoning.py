"""Reason, then score: all traces of an item, and the scores after them, continue one encoding of its image and prompt.

Shapes: N items, D dimensions, K traces of a question, T tokens, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import counted
from zreward.distribution import ScoreDistribution
from zreward.models.caches import Follow
from zreward.models.inputs import shown_images
from zreward.models.passes import Images, PrefixState, run_pass
from zreward.models.rollout import Trace, sample_traces
from zreward.models.rows import Row, rows_of
from zreward.models.shared_prefix import generation_inputs
from zreward.models.sharing import Part
from zreward.models.split_weights import in_all
from zreward.models.tokens import pad, to_left

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel
    from zreward.prompting import Texts


@dataclass(frozen=True)
class Judgement:
    """A teacher's verdict on one item: per dimension K sampled traces and the distribution averaged over them (Eq. 1)."""

    distribution: ScoreDistribution  # (1, D, S)
    traces: dict[str, list[str]]  # dimension -> K texts, without the stop marker
    trace_distribution: Tensor  # (K, D, S), one distribution per trace
    tokens: Tensor  # (K, D): sampled tokens, the stop marker included
    truncated: Tensor  # (K, D) bool: the budget ran out before the stop marker


@dataclass(frozen=True)
class EncodedQuestions:
    """N items whose image and prompt are encoded, and what is left of D questions about each before a trace begins."""

    prefix: PrefixState
    questions: list[Tensor]  # D of (N, T), no padding


def judge_opened(
    model: RewardModel,
    shown: Sequence[tuple[Tensor, ...]],
    texts: Sequence[str | Texts],
    traces: int,
    names: tuple[str, ...],
    temperature: float,
) -> list[Judgement]:
    """One dimension after the other: traces of one dimension are about equally long, so that few rows wait."""
    return model.backbone.within(partial(_judge_opened, model, shown, texts, traces, names, temperature))


def _judge_opened(
    model: RewardModel,
    shown: Sequence[tuple[Tensor, ...]],
    texts: Sequence[str | Texts],
    traces: int,
    names: tuple[str, ...],
    temperature: float,
) -> list[Judgement]:
    sampled: dict[str, list[Trace]] = {}
    probs: list[Tensor] = []
    images = [image for mine in shown for image in mine]
    shared = _encode_questions(model, images, rows_of(shown, texts, names), len(names))
    items = [item for item in range(len(shown)) for _ in range(traces)]
    for number, name in enumerate(names):
        encoded, question = shared, number
        if shared is None:  # questions of unequal lengths: one by one
            encoded, question = _encode_questions(model, images, rows_of(shown, texts, [name]), 1), 0
        if encoded is not None:
            with counted(items, name):
                sampled[name] = _sample_after(model, encoded, question, traces, temperature)
            logits = _read_after(model, encoded, question, sampled[name])
        else:
            rows = [row for row in rows_of(shown, texts, [name]) for _ in range(traces)]
            with counted(items, name):
                sampled[name] = _reason(model, images, rows, temperature)
            answered = [replace(row, trace=trace) for row, trace in zip(rows, sampled[name], strict=True)]
            logits = model.backbone.forward(model.collate(images, answered).to(model.device)).score_logits
        probs.append(logits.softmax(-1).cpu().view(len(shown), traces, -1))
    return judgements_of(model, sampled, torch.stack(probs, 2))


def judgements_of(model: RewardModel, sampled: dict[str, list[Trace]], probs_NKDS: Tensor) -> list[Judgement]:
    """What N items' traces (dimension -> N * K, those of an item next to each other) and the scores after them say."""
    traces, names, pair_scale = probs_NKDS.shape[1], tuple(sampled), None
    if calibration := model.calibrations.get("reasoning"):
        each = ScoreDistribution(probs_NKDS.flatten(0, 1), model.rubric.scale.bins, names)
        probs_NKDS = calibration(each).probs.view_as(probs_NKDS)
        pair_scale = calibration.pair_scale(names)
    averaged = torch.stack([probs_KDS.mean(0) for probs_KDS in probs_NKDS])
    verdicts = ScoreDistribution(averaged, model.rubric.scale.bins, names, pair_scale)  # refuses NaN
    return [
        _judgement(
            model, {name: sampled[name][i * traces : (i + 1) * traces] for name in names}, probs_KDS, verdicts[i]
        )
        for i, probs_KDS in enumerate(probs_NKDS)
    ]


def _judgement(
    model: RewardModel, traces: dict[str, list[Trace]], probs_KDS: Tensor, verdict: ScoreDistribution
) -> Judgement:
    by_trace = list(zip(*traces.values(), strict=True))  # K of D
    return Judgement(
        verdict,
        {name: [model.trace_text(trace) for trace in mine] for name, mine in traces.items()},
        probs_KDS,
        torch.tensor([[len(trace) for trace in each] for each in by_trace]),
        torch.tensor([[trace.truncated for trace in each] for each in by_trace]),
    )


@torch.no_grad()
def reason(
    model: RewardModel,
    images: Sequence[Tensor],
    rows: Sequence[Row],
    temperature: float,
    seeds: Sequence[int] | None = None,
) -> list[Trace]:
    """One trace for every row. Equal rows next to each other, the same number of each, are encoded once."""
    return model.backbone.within(partial(_reason, model, images, rows, temperature, seeds))


def _reason(
    model: RewardModel,
    images: Sequence[Tensor],
    rows: Sequence[Row],
    temperature: float,
    seeds: Sequence[int] | None = None,
) -> list[Trace]:
    rows = [replace(row, trace=None, explanation=None) for row in rows]
    times = _repetitions(rows)
    if times > 1:
        encoded = _encode_questions(model, images, rows[::times], 1)
        if encoded is not None:
            return _sample_after(model, encoded, 0, times, temperature, seeds)
    begun = model.collate(images, rows, start=True)
    ids_NT, mask_NT = to_left(begun.input_ids, begun.attention_mask, model.encoder.pad_id)
    inputs = {"input_ids": ids_NT, "attention_mask": mask_NT}
    shown = shown_images(begun.row_images)
    if len(shown):
        patches = begun.patches.split(begun.grid.prod(1).tolist())  # by image; `generate` wants them by row
        inputs["pixel_values"] = torch.cat([patches[i] for i in shown])
        inputs |= model.backbone.image_arguments(ids_NT, begun.grid[shown])
    return _sample(model, {key: value.to(model.device) for key, value in inputs.items()}, temperature, seeds)


def _repetitions(rows: Sequence[Row]) -> int:
    """How often every row is repeated, next to each other; 1 where some are repeated more often than others."""
    runs = {len(list(group)) for _, group in groupby(rows)}
    return runs.pop() if len(runs) == 1 else 1


def _encode_questions(
    model: RewardModel, images: Sequence[Tensor], rows: Sequence[Row], each: int
) -> EncodedQuestions | None:
    """Rows of N items, `each` questions of an item next to each other; None where they cannot be shared.

    Generation goes on from a common end: a question has to be equally long for all items.
    """
    inputs = model.collate(images, rows, start=True).to(model.device)
    backbone, shared = model.backbone, model.backbone.shared_prefix
    after = len(model.encoder.stop_ids) + len(model.encoder.prefix_ids)
    cut = shared.cut(backbone, inputs, singly=True, ahead=model.max_trace_tokens + after)
    if cut is None or cut.prefix is None:
        return None
    lengths = cut.branches.mask.sum(1).view(-1, each)
    if not in_all(backbone, bool((lengths == lengths[0]).all())):
        return None
    encoded = shared.encode(backbone, cut, Images(backbone.encode_images(inputs), inputs.grid))
    assert encoded is not None, "there are prefixes"
    questions = [cut.branches.ids[d::each, :length] for d, length in enumerate(lengths[0].tolist())]
    return EncodedQuestions(encoded, questions)


def _sample_after(
    model: RewardModel,
    after: EncodedQuestions,
    question: int,
    times: int,
    temperature: float,
    seeds: Sequence[int] | None = None,
) -> list[Trace]:
    """`times` traces for every item's question, those of an item next to each other."""
    suffix = after.questions[question].repeat_interleave(times, 0)
    return _sample(model, generation_inputs(model.backbone, after.prefix, suffix), temperature, seeds)


def _read_after(model: RewardModel, after: EncodedQuestions, question: int, traces: Sequence[Trace]) -> Tensor:
    """Label logits (N * K, S) after a question and its traces."""
    begun = after.questions[question].tolist()
    K = len(traces) // len(begun)
    sequences = [begun[n // K] + model.encoder.answer_ids(trace) for n, trace in enumerate(traces)]
    ids, mask = (part.to(model.device) for part in pad(sequences, model.encoder.pad_id))
    follow = Follow.evenly(len(begun), K, model.device)
    hidden = run_pass(model.backbone, Part(ids, mask), before=after.prefix, follow=follow)
    return model.backbone.label_logits(hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1])


def _sample(model: RewardModel, inputs: dict, temperature: float, seeds: Sequence[int] | None) -> list[Trace]:
    return sample_traces(
        model.backbone.base,
        inputs,
        model.encoder.stop_ids,
        model.backbone.trace_ban,
        model.encoder.pad_id,
        model.max_trace_tokens,
        temperature,
        seeds,
        synced=model.backbone.is_sharded,
    )
