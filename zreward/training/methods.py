"""The training methods, one object each: what it needs, what it is trained on, and the trainer that does it.

A package adds one with an entry point of the group `zreward.methods` that leads to a `Method` (`zreward.common.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zreward.common import registry
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.data import Pair, Preference, Record
from zreward.data.pairs import each_pair
from zreward.models.reward_model import RewardModel
from zreward.training.annotated import annotated_items, compared_items
from zreward.training.curves import Curve
from zreward.training.direct import DirectItem, DirectTrainer
from zreward.training.lazy_items import SpooledPairs
from zreward.training.preferred import PreferenceTrainer, preferred_items
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.rollout_data import MixedItems, pair_items, unrated_items
from zreward.training.targets import distilled_items, explained_items
from zreward.training.trainer_base import RewardTrainer


@dataclass(frozen=True)
class Job:
    """What a trainer is built from: read and checked, nothing trained yet."""

    recipe: Recipe
    run: RunDirectory
    model: RewardModel
    every_record: Sequence[Record]  # of data.train
    records: Sequence[Record]  # the first data.train_records of them
    dimensions: tuple[str, ...]
    callbacks: Sequence[Curve]
    preferences: Sequence[Preference] = ()  # of data.train where the method `prefers`; of gdso, of data.preferences

    def pairs(self) -> Sequence[Pair]:
        """Same-prompt pairs of the records. InputError where there are none."""
        mined = each_pair(self.records, self.dimensions, self.recipe.rollout.include_ties)
        pairs = SpooledPairs(mined, self.dimensions)
        if not pairs:
            raise InputError(
                f"{self.recipe.data.train}: no prompt has two rated images, so there are no pairs for {self.recipe.method}"
            )
        return pairs


@dataclass(frozen=True)
class Method:
    """How a recipe's `method` is trained."""

    trainer: Callable[[Job], RewardTrainer]
    reasons: bool = False  # traces are sampled; the dev curve reasons too
    needs_ratings: bool = True  # of the trained dimensions
    prefers: bool = False  # data.train holds preferences
    compares: bool = False  # the model is asked to compare with a reference
    unit: str = "items"  # what there is to train on


def find_method(name: str) -> Method:
    """The method of that name, ours or a package's. InputError where its package cannot be imported."""
    return METHODS.get(name) or registry.find(registry.METHODS, name)


def load_teacher(recipe: Recipe, student: RewardModel) -> RewardModel:
    """OPD's frozen teacher. Raises InputError unless it reads the student's tokens and speaks of the same rubric."""
    name, wanted = str(recipe.rollout.teacher), recipe.model
    teacher = RewardModel.from_pretrained(
        name,
        device=student.device,
        dtype=wanted.dtype,
        attn_implementation=wanted.attn_implementation,
        empty=student.empty,
    )
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise InputError(
            f"{recipe.rollout.teacher}: its tokenizer is not the student's; OPD compares token by token. Use models of "
            "one family, or risd, which compares scores only"
        )
    if teacher.rubric.fingerprint() != student.rubric.fingerprint():
        raise InputError(f"{recipe.rollout.teacher}: the teacher's rubric is not the student's")
    teacher.requires_grad_(False)
    return teacher


def _sft(job: Job) -> RewardTrainer:
    return _direct(job, annotated_items(job.records, job.dimensions, job.model, job.recipe.data.smoothing))


def _risd(job: Job) -> RewardTrainer:
    return _direct(job, distilled_items(_targets(job), job.every_record, job.recipe.data, job.model))


def _rewarddance(job: Job) -> RewardTrainer:
    items = explained_items(_targets(job), job.every_record, job.recipe.data, job.dimensions, job.model)
    return _direct(job, items)


def _rewarddance_pairwise(job: Job) -> RewardTrainer:
    return _direct(job, compared_items(job.records, job.pairs()))


def _preference(job: Job) -> RewardTrainer:
    data = job.recipe.data
    items = preferred_items(job.preferences, job.dimensions, data.group_dimensions, data.vote_smoothing)
    rated = annotated_items(job.records, job.dimensions, job.model, data.smoothing)
    return PreferenceTrainer(job.model, job.recipe, job.run, items, rated, job.callbacks)


def _rated_rollouts(job: Job) -> RewardTrainer:
    items = pair_items(job.records, job.pairs(), job.model, job.recipe.data.smoothing)
    return RolloutTrainer(job.model, job.recipe, job.run, items, job.callbacks)


def _gdso(job: Job) -> RewardTrainer:
    if not job.preferences:
        return _rated_rollouts(job)
    scored = tuple(name for name in job.dimensions if any(record.ratings(name) for record in job.records))
    pairs = replace(job, dimensions=scored).pairs()
    rated = pair_items(job.records, pairs, job.model, job.recipe.data.smoothing)
    items = MixedItems(rated, preferred_items(job.preferences, job.dimensions, together=False), job.model.rubric.scale)
    return RolloutTrainer(job.model, job.recipe, job.run, items, job.callbacks)


def _opd(job: Job) -> RewardTrainer:
    teacher = load_teacher(job.recipe, job.model)
    items = unrated_items(job.records, job.dimensions)
    return RolloutTrainer(job.model, job.recipe, job.run, items, job.callbacks, teacher)


def _direct(job: Job, items: Sequence[DirectItem]) -> RewardTrainer:
    return DirectTrainer(job.model, job.recipe, job.run, items, job.callbacks)


def _targets(job: Job) -> Path:
    return Path(str(job.recipe.data.targets))


METHODS = {
    "sft": Method(_sft),
    "risd": Method(_risd, needs_ratings=False),
    "rewarddance": Method(_rewarddance),
    "rewarddance-pairwise": Method(_rewarddance_pairwise, compares=True),
    "preference": Method(_preference, needs_ratings=False, prefers=True, unit="pairs and rated pictures"),
    "grpo": Method(_rated_rollouts, reasons=True, unit="pairs"),
    "gdso": Method(_gdso, reasons=True, unit="pairs"),
    "opd": Method(_opd, reasons=True, needs_ratings=False),
}
