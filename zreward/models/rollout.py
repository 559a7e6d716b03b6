"""Sampling reasoning traces: up to the stop marker or the budget, control and vision tokens excluded."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from zreward.common.errors import NotFiniteError
from zreward.models.draws import draw, uniforms


@dataclass(frozen=True)
class Trace:
    """One sampled trace. `ids` ends with the stop marker unless `truncated` (the budget ran out before it was sampled)."""

    ids: tuple[int, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


class _Ban(LogitsProcessor):
    """Takes the banned ids out; the same mask is applied where log-probabilities are taken.

    Raises NotFiniteError, for the row, where there is nothing to sample from.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # On a GPU, sampling from NaN would end the whole process; greedily, it would be token 0.
        broken = ~scores.isfinite().all(-1)
        if broken.any():
            raise NotFiniteError(int(broken.nonzero()[0]))
        return scores.index_fill(-1, self.ids, float("-inf"))


class _Draw(LogitsProcessor):
    """Leaves one token of each row: drawn with the row's own uniform numbers (N, tokens)."""

    def __init__(self, uniforms: Tensor, prompt_length: int, temperature: float) -> None:
        self.uniforms, self.prompt_length, self.temperature = uniforms, prompt_length, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt_length
        chosen = draw((scores.float() / self.temperature).softmax(-1), self.uniforms[:, step])
        return torch.full_like(scores, float("-inf")).scatter(1, chosen[:, None], 0.0)


class _StopAfterMarker(StoppingCriteria):
    """A row is done when its last tokens are the stop marker's."""

    def __init__(self, stop_ids: list[int], prompt_length: int) -> None:
        self.stop_ids, self.prompt_length = stop_ids, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs) -> Tensor:
        n = len(self.stop_ids)
        if input_ids.shape[1] - self.prompt_length < n:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        stop = torch.tensor(self.stop_ids, device=input_ids.device)
        return (input_ids[:, -n:] == stop).all(1)


@torch.no_grad()
def sample_traces(
    model: Any,
    inputs: dict[str, Tensor],
    stop_ids: list[int],
    ban: Tensor,
    pad_id: int,
    max_tokens: int,
    temperature: float = 1.0,
    seeds: Sequence[int] | None = None,
    synced: bool = False,
) -> list[Trace]:
    """Sample one trace per row of left-padded `inputs` with the `generate` of a model without a PEFT wrapper; 0 is greedy.

    With `seeds`, one for each row, a row's trace does not depend on the batch; without, torch's global random state is used.
    `synced`: all processes go on until the last one is done, because they need one another in every step.

    What a checkpoint's generation_config.json says (penalties, banned words, beams, ...) is not used: log-probabilities of
    the traces are taken without it.
    """
    length = inputs["input_ids"].shape[1]
    processors: list[LogitsProcessor] = [_Ban(ban)]
    if seeds is not None and temperature > 0:
        processors.append(_Draw(uniforms(seeds, max_tokens).to(ban.device), length, temperature))
        temperature = 0  # the likeliest token is the only one that is left
    generated = _with_plain_settings(model).generate(
        **inputs,
        max_new_tokens=max_tokens,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
        top_k=0 if temperature > 0 else None,
        top_p=1.0 if temperature > 0 else None,
        use_cache=True,
        eos_token_id=None,
        pad_token_id=pad_id,
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList([_StopAfterMarker(stop_ids, length)]),
        **({"synced_gpus": True} if synced else {}),  # else transformers decides: under ZeRO-3 it goes on, too
    )
    return [_cut(row, stop_ids) for row in generated[:, length:].tolist()]


def _with_plain_settings(model: Any) -> Any:
    """The same modules and weights under generation settings that say nothing: `generate` takes missing options from there.

    The model keeps its own: other threads may be sampling from it.
    """
    view = copy(model)
    view.generation_config = GenerationConfig()
    return view


def _cut(ids: list[int], stop_ids: list[int]) -> Trace:
    """Keep everything up to and with the first stop marker; what follows is padding."""
    n = len(stop_ids)
    for end in range(n, len(ids) + 1):
        if ids[end - n : end] == stop_ids:
            return Trace(tuple(ids[:end]), truncated=False)
    return Trace(tuple(ids), truncated=True)
