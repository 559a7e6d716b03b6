"""RewardDance's own form (arXiv 2509.08826): is this image better than a reference image of the same prompt, yes or no?

The answer's two labels are a scale of their own, from 0 (no) to 1 (yes), so that a comparing model is a `RewardModel` like
any other: its mean is the probability of "yes", the reward. Reasons before the answer are left out here, as at test time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zreward.common.errors import InputError
from zreward.distribution import ScoreScale
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric


@dataclass(frozen=True)
class PairwiseQuestion:
    """How the question is put; its texts take the fields of `PromptForms`."""

    negative: str = "no"  # one token each; not called no and yes, which YAML reads as booleans
    positive: str = "yes"  # the answer whose probability is the score
    reference: str = "The image above is the reference. The image to judge:"  # between the two pictures
    direct: str = (  # the question
        "\n\n{title}: {question}\nIs the second image better than the reference here? Answer with one word: {levels}."
    )
    answer_prefix: str = "\n\nAnswer: "  # forced before the answer


def comparing(model: RewardModel, how: PairwiseQuestion | None = None) -> RewardModel:
    """The same network, asked to compare on the rubric's dimensions; its rubric's scale is that of the answer, 0 to 1.

    Raises InputError for a model that already compares, and for answers that are not one token each.
    """
    how = how or PairwiseQuestion()
    if model.forms.reference:
        raise InputError("this model already compares with a reference; start from one that scores single images")
    rubric = Rubric(
        name=f"{model.rubric.name}-comparison",
        version=model.rubric.version,
        scale=ScoreScale(0, 1, 1),
        labels=(how.negative, how.positive),
        dimensions=tuple(
            replace(dimension, anchors={1: "better than the reference", 0: "not better"})
            for dimension in model.rubric.dimensions
        ),
    )
    forms = replace(model.forms, reference=how.reference, direct=how.direct, answer_prefix=how.answer_prefix)
    return RewardModel(
        model.backbone.model,
        model.tokenizer,
        rubric,
        forms,
        model.resolution,
        model.layout,
        model.max_trace_tokens,
    )
