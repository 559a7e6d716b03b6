"""Ask a model which picture of a pair is better: the gap between the scores, and the probability that a is better than b.

Shapes: N preferences, D dimensions, M questions (distinct pictures; of a model that compares, ordered pairs), S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import InputError, check_counts
from zreward.common.jobs import Job
from zreward.data.preference import OVERALL, Preference
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution
from zreward.evaluation.asking import Questions, ask
from zreward.evaluation.metrics import Array
from zreward.evaluation.prediction import Predictions

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

Sides = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class PreferencePredictions:
    """What a model said about N preferences."""

    gap: Tensor
    """[N, D], the score of a minus that of b: in score units, of a model that compares from -1 to 1."""
    prob: Tensor
    """[N, D], the probability that a is better, in [0, 1]; a tie counts half."""
    dimensions: tuple[str, ...]
    """Of the model."""
    output_tokens: Tensor
    """[N, D], for one picture: the mean of both."""
    truncated: Tensor
    """[N, D], the share of the traces that the budget cut off."""
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.gap)

    def answer(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Gap [N] and probability [N] of the mean of some of the model's dimensions."""
        columns = self.columns(names)
        return self.gap[:, columns].mean(1).numpy(), self.prob[:, columns].mean(1).numpy()

    def columns(self, names: Sequence[str]) -> list[int]:
        return [self.dimensions.index(name) for name in names]


def predict_preferences(
    model: RewardModel,
    preferences: Sequence[Preference],
    dimensions: Sequence[str] | None = None,
    reasoning: bool = False,
    traces: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    temperature: float = 1.0,
    job: Job | None = None,
    together: bool = False,
) -> PreferencePredictions:
    """Ask a model about both pictures of every preference, directly or after reasoning.

    A picture that stands in several pairs of a prompt is scored once. With several traces a picture's distribution is their
    mean, so the probability is the mean over all pairs of a trace of a and one of b. A model that compares is asked about a
    beside b and about b beside a, and the probability is the mean of the two answers.

    Args:
        model: the reward model.
        preferences: at least one; votes are not looked at.
        dimensions: names of the model's rubric; default all of them.
        reasoning: as in `prediction.predict`, and so the arguments that follow.
        traces: per picture and dimension.
        batch_size: pictures in a batch; of a model that compares, ordered pairs.
        seed: of sampling.
        progress: show a progress bar.
        temperature: of sampling; 0 is greedy.
        job: this process, where all processes of a launch call this together.
        together: with `job`: every forward pass takes all processes.

    Returns:
        Gaps and probabilities of every preference and dimension.

    Raises:
        InputError: no preferences, an unknown dimension, an unreadable picture, answers that are not finite.
    """
    if not preferences:
        raise InputError("no preferences to evaluate; the data set is empty")
    check_counts(traces=traces, batch_size=batch_size)
    names, compares = model.check_dimensions(dimensions), bool(model.forms.reference)
    pictures, sides = distinct_pictures(preferences)
    asked = Questions(pictures)
    if compares:
        asked, sides = _both_ways(pictures, sides)
    found = ask(model, asked, names, reasoning, traces, batch_size, seed, progress, temperature, job, together)
    said = Predictions(
        found.answers.probs, model.rubric.scale.bins, names, *found.answers[1:3], found.seconds, compares
    )
    return paired(said, sides)


def distinct_pictures(preferences: Sequence[Preference]) -> tuple[list[Record], Sides]:
    """The pictures of preferences as unrated records, each once for a prompt; and for every preference the numbers of a and b."""
    numbers: dict[tuple[str, object], int] = {}
    pictures: list[Record] = []
    sides: Sides = []
    for one in preferences:
        keys = [(one.prompt, image if isinstance(image, str | bytes) else id(image)) for image in one.images]
        for key, image in zip(keys, one.images, strict=True):
            if numbers.setdefault(key, len(pictures)) == len(pictures):
                pictures.append(Record(one.prompt, image, group=one.group, split=one.split))
        sides.append((numbers[keys[0]], numbers[keys[1]]))
    return pictures, sides


def _both_ways(pictures: list[Record], sides: Sides) -> tuple[Questions, Sides]:
    """Every pair in both orders, each once; and for every preference the questions that begin with a and with b."""
    numbers: dict[tuple[int, int], int] = {}
    for a, b in sides:
        for pair in ((a, b), (b, a)):
            numbers.setdefault(pair, len(numbers))
    return Questions(pictures, list(numbers)), [(numbers[a, b], numbers[b, a]) for a, b in sides]


def paired(said: Predictions, sides: Sequence[tuple[int, int]]) -> PreferencePredictions:
    """Gaps and probabilities of pairs, from what a model said about pictures, or about both orders of every pair.

    Args:
        said: answers to M questions.
        sides: for every pair the question about a and the one about b.

    Returns:
        Of every pair.
    """
    a, b = torch.tensor(sides).unbind(1)
    probs, bins = said.probs.double(), said.bins.double()
    gap = (probs[a] - probs[b]) @ bins
    if said.compares:
        prob = (1 + gap) / 2  # its scores are probabilities: of a over b, and of b over a
    else:
        left, right = (ScoreDistribution(probs[side], bins, said.dimensions, said.pair_scale) for side in (a, b))
        prob = left.prefers(right)
    tokens, truncated = ((values[a] + values[b]) / 2 for values in (said.output_tokens, said.truncated))
    return PreferencePredictions(gap, prob.clamp(0, 1), said.dimensions, tokens, truncated, said.seconds)


def answering(
    preferences: Sequence[Preference], known: Sequence[str], chosen: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """For every dimension of the votes: which of the model's dimensions answer. A dimension answers votes of its own name.

    Votes on "overall" are answered by the mean of all of the model's dimensions, where it has none of that name.

    Args:
        preferences: with votes.
        known: the model's dimensions.
        chosen: those of them to ask about; default all. Then votes on other dimensions are left out, and where only
            "overall" was voted on, the mean of the chosen ones answers.

    Returns:
        In the order of the model's dimensions, "overall" last.

    Raises:
        InputError: none of the dimensions has votes; without `chosen`, also votes on a dimension that the model does not have.
    """
    voted = dict.fromkeys(name for one in preferences for name in one.votes)
    unknown = [name for name in voted if name not in (*known, OVERALL)]
    if unknown and chosen is None:
        raise InputError(
            f"the votes are on {', '.join(map(repr, unknown))}, but the model's dimensions are {', '.join(known)}. Use a model "
            "trained on these dimensions, or name the ones to evaluate"
        )
    asked = tuple(known if chosen is None else chosen)
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in asked if name in voted}
    if OVERALL in voted and OVERALL not in known and (chosen is None or not found):
        found[OVERALL] = asked
    if not found:
        raise InputError(
            f"no preference has votes on {', '.join(asked)}; the votes are on {', '.join(voted) or 'nothing'}. Name dimensions "
            "with votes, or use a model that has them"
        )
    return found
