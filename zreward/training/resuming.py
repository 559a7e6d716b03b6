"""What a training run is made from, and when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zreward.common.files import file_digest
from zreward.data import Preference, Record
from zreward.data.fingerprint import records_fingerprint
from zreward.models.fingerprint import model_fingerprint, short_digest
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe


def is_finished(run: Path) -> bool:
    """The final model is written last, as a whole."""
    return (run / "model" / "zreward.json").exists()


def inputs_of(
    recipe: Recipe,
    model: RewardModel,
    train: Sequence[Record],
    dev: Sequence[Record],
    teacher: RewardModel | None,
    preferences: Sequence[Preference] = (),
    dev_preferences: Sequence[Preference] = (),
) -> dict[str, Any]:
    """Digests of everything that a run reads, under the recipe's keys. `model` as it is before the first step."""
    facts: dict[str, Any] = {
        "data": {"train": records_fingerprint(train, ratings=True)},
        "model": model_fingerprint(model, adapters=not recipe.model.lora_rank),
    }
    if preferences:  # their pictures are among the records
        facts["data"]["votes"] = short_digest([one.votes for one in preferences])
    if dev:
        facts["data"]["dev"] = records_fingerprint(dev, ratings=True)
    if dev_preferences:
        facts["data"]["dev_votes"] = short_digest([one.votes for one in dev_preferences])
    if recipe.data.targets:
        shards = sorted(Path(recipe.data.targets).glob("*.parquet"))
        facts["data"]["targets"] = short_digest([file_digest(shard) for shard in shards])
    if teacher is not None:
        facts["rollout"] = {"teacher": model_fingerprint(teacher)}
    return facts
