"""What an optimisation is made from, in digests: generator, prompts, student, held-out judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from zreward.generation.judges import Judge
from zreward.models.fingerprint import model_fingerprint, short_digest, tensors_fingerprint
from zreward.models.reward_model import RewardModel

_PLACES = ("_name_or_path", "_diffusers_version", "_class_name", "_use_default_values")


def generator_fingerprint(pipeline: Any) -> dict[str, str]:
    """A digest of every part of a diffusers pipeline: weights, configuration, vocabulary."""
    found = {}
    for name, part in sorted(pipeline.components.items()):
        if part is None:
            continue
        facts: list[Any] = [type(part).__name__]
        if hasattr(part, "config"):
            config = part.config.to_dict() if hasattr(part.config, "to_dict") else dict(part.config)
            facts.append({k: v for k, v in config.items() if k not in (*_PLACES, "transformers_version")})
        if isinstance(part, nn.Module):
            facts.append(tensors_fingerprint(part.state_dict()))
        elif hasattr(part, "get_vocab"):
            facts.append(sorted(part.get_vocab().items()))
        found[name] = short_digest(facts)
    return found


def inputs_of(
    generator: dict[str, str],
    prompts: Sequence[str],
    held_out: Sequence[str],
    student: RewardModel,
    holdout: Judge | None,
) -> dict[str, Any]:
    """Under the recipe's keys; `generator` as `generator_fingerprint` had it before the first step."""
    return {
        "generator": generator,
        "prompts": short_digest(list(prompts)),
        "held_out": short_digest(list(held_out)),
        "student": model_fingerprint(student),
        "guards": {"holdout": dict(holdout.fingerprint) if holdout else None},
    }
