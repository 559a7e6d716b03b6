"""Rows and their pictures as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import InputError, shown
from zreward.models.feeding import patches
from zreward.models.inputs import ModelInput
from zreward.models.layouts import Grid
from zreward.models.rows import Row
from zreward.models.tokens import expand_images, pad

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel


def collate(model: RewardModel, images: Sequence[Tensor], rows: Sequence[Row], start: bool) -> ModelInput:
    """`RewardModel.collate`."""
    sequences, trace_spans, score_at = [], [], []
    patched, grids = patches(images, model.layout, model.resolution, model.device)
    for row in rows:
        ids = _prompt_ids(model, row, grids, reasoning=start or row.trace is not None)
        begin = len(ids)
        if row.trace is not None:
            ids += model.encoder.answer_ids(row.trace)
        score_at.append(len(ids) - 1)
        text = row.trace
        if row.explanation is not None:
            score, text = row.explanation
            ids += [int(model.encoder.label_ids[score]), *model.encoder.reasoning_ids]
            begin = len(ids)
            ids += text.ids
        _check_length(model, ids, row, grids, model.max_trace_tokens if start else 0)
        sequences.append(ids)
        trace_spans.append((begin, begin + (len(text) if text else 0)))
    ids_NT, mask_NT = pad(sequences, model.encoder.pad_id)
    trace_NT = None
    explained = any(row.explanation is not None for row in rows)
    if explained or any(row.trace is not None for row in rows):
        trace_NT = torch.zeros_like(mask_NT)
        for n, (begin, end) in enumerate(trace_spans):
            trace_NT[n, begin:end] = 1
    most = max(len(row.images) for row in rows)
    index = torch.tensor([[*row.images, *[-1] * (most - len(row.images))] for row in rows], dtype=torch.long)
    at = torch.tensor(score_at) if explained else None
    grid = torch.tensor(grids, dtype=torch.long).view(-1, 3)
    return ModelInput(ids_NT, mask_NT, patched, grid, index.view(len(rows), most), trace_NT, at, _items(rows))


def _items(rows: Sequence[Row]) -> Tensor | None:
    """(N,): the number of each row's item, where some rows show no images; None where their images tell."""
    if all(row.images for row in rows):
        return None
    new = [first.key != second.key for first, second in pairwise(rows)]
    return torch.tensor([0, *new]).cumsum(0)


def _prompt_ids(model: RewardModel, row: Row, grids: Sequence[Grid], reasoning: bool) -> list[int]:
    ids = model.encoder.encode(row.texts, model.rubric.dimension(row.dimension), reasoning, len(row.images))
    counts = [model.layout.tokens(grids[index]) for index in row.images]
    return expand_images(ids, model.encoder.image_token_id, counts)


def _check_length(model: RewardModel, ids: Sequence[int], row: Row, grids: Sequence[Grid], reserved: int) -> None:
    shown_grids = [grids[index] for index in row.images]
    saved = sum(model.layout.tokens(grid) - model.layout.positions(grid) for grid in shown_grids)
    needed = len(ids) - saved + reserved
    if model.context is not None and needed > model.context:
        raise InputError(
            f"prompt {shown(row.prompt)}: with its images, question and reasoning it takes {needed:,} positions; the model "
            f"was made for {model.context:,}; shorten its texts"
        )
