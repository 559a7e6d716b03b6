"""What an engine is asked and what it answers, whatever engine it is.

Shapes: N questions, S score bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from zreward.common.errors import InputError
from zreward.models.rollout import Trace
from zreward.models.rows import Row

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

BAN = -100.0  # the lowest bias that vLLM takes; exp(-100) is nothing beside a sum of probabilities in float32
MOST_LABELS = 128  # of which vLLM reports the log-probabilities in one request


@dataclass(frozen=True)
class Question:
    """A conversation up to where the model goes on. One placeholder in `ids` stands for each picture."""

    ids: list[int]
    pictures: list[Tensor]  # float pixels (3, H, W) in [0, 1], at the size that the model sees


@dataclass(frozen=True)
class Sampled:
    """A trace and the log-probabilities of its tokens, under the weights, temperature and mask that sampled it."""

    trace: Trace
    log_probs: list[float]


@dataclass(frozen=True)
class TokenRules:
    """Which tokens end a trace, may not be part of one, and are the rubric's labels in score order."""

    stop_id: int
    banned: tuple[int, ...]
    labels: tuple[int, ...]
    budget: int  # tokens of a trace at most


class Engine(Protocol):
    """Something that samples and scores with weights of its own."""

    def sample(self, questions: Sequence[Question], temperature: float, seeds: Sequence[int]) -> list[Sampled]:
        """One trace for each question; 0 is greedy. A question's trace depends on its own seed."""

    def score(self, questions: Sequence[Question]) -> Tensor:
        """(N, S): log-probabilities of the labels as the next token, up to a constant for each row."""

    def load_adapter(self, folder: Path) -> None:
        """Use the LoRA adapter in a folder from now on, in place of the one before."""

    def load_weights(self, folder: Path) -> None:
        """Use the weights in a folder from now on; what was computed with older ones is forgotten."""

    def close(self) -> None:
        """Free its memory."""


def rules_of(model: RewardModel) -> TokenRules:
    """The token rules of `RewardModel.reason`. InputError for what vLLM cannot do."""
    encoder, stop = model.encoder, model.encoder.stop_ids
    if len(stop) != 1:
        raise InputError(
            f"the stop marker {model.forms.stop_marker!r} is {len(stop)} tokens in this model's tokenizer; vLLM stops at one "
            "token. Choose prompt forms whose stop_marker is one token, or use engine generate"
        )
    if len(encoder.label_ids) > MOST_LABELS:
        raise InputError(
            f"the rubric has {len(encoder.label_ids)} labels; vLLM reports at most {MOST_LABELS}: use engine generate"
        )
    return TokenRules(
        stop[0], tuple(encoder.trace_ban.tolist()), tuple(encoder.label_ids.tolist()), model.max_trace_tokens
    )


def sampling_params(rules: TokenRules, temperature: float, seed: int) -> dict[str, Any]:
    """vLLM's sampling parameters of a trace: `RewardModel.reason`'s token mask, stop marker and budget."""
    return {
        "temperature": temperature,
        "seed": seed,
        "max_tokens": rules.budget,
        "ignore_eos": True,
        "stop_token_ids": [rules.stop_id],
        "logit_bias": dict.fromkeys(rules.banned, BAN),
        "logprobs": 0,
        "detokenize": False,
    }


def scoring_params(rules: TokenRules) -> dict[str, Any]:
    """vLLM's sampling parameters of a score: the labels' log-probabilities as the next token."""
    labels = list(rules.labels)
    return {"temperature": 1.0, "max_tokens": 1, "ignore_eos": True, "logprob_token_ids": labels, "detokenize": False}


def questions_of(model: RewardModel, images: Sequence[Tensor], rows: Sequence[Row], start: bool) -> list[Question]:
    """Rows over pictures that `RewardModel.open` or `decode` returned.

    Args:
        model: whose conversations and picture sizes they are.
        images: pictures.
        rows: questions about them.
        start: up to where a trace begins; else up to where the score is read, after the row's trace where it has one.
    """
    shown = [model.prepare(image).float().cpu() for image in images]
    return [Question(_ids(model, row, start), [shown[i] for i in row.images]) for row in rows]


def _ids(model: RewardModel, row: Row, start: bool) -> list[int]:
    reasoning = start or row.trace is not None
    ids = model.encoder.encode(row.texts, model.rubric.dimension(row.dimension), reasoning, len(row.images))
    return ids if start or row.trace is None else ids + model.encoder.answer_ids(row.trace)
