"""Whether an engine answers with the weights that it should have: a few questions, asked of both.

vLLM has kept old weights, old features of pictures and old keys and values after an update, each in silence. So the label
distributions of the same few questions are compared after every update; caches know these questions from the update before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.models.modes import evaluation_mode
from zreward.models.rows import Row
from zreward.sampling.questions import Engine, questions_of

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

EXACT, ROUNDED = 5e-4, 5e-2


class WeightsDifferError(InputError):
    """An engine answers with other weights than the model's."""


class Canary:
    """Pictures and questions with which a model and its copy in an engine are compared.

    Args:
        images: pictures that the model's `decode` returned.
        rows: questions about them, without traces.
        tolerance: the largest difference of a label's probability; default by the number format.
    """

    def __init__(
        self, model: RewardModel, images: Sequence[Tensor], rows: Sequence[Row], tolerance: float | None = None
    ) -> None:
        self.model, self.images, self.rows = model, images, rows
        exact = precision_of(model) in (torch.float32, torch.float64)
        self.tolerance = tolerance or (EXACT if exact else ROUNDED)
        self._questions = questions_of(model, images, rows, start=False)

    @torch.no_grad()
    def check(self, engine: Engine) -> float:
        """The largest difference of a label's probability. WeightsDifferError where that is above the tolerance, or NaN."""
        model = self.model
        with evaluation_mode(model):
            inputs = model.collate(self.images, self.rows).to(model.device)
            mine = model.backbone(inputs).score_logits.float().softmax(-1).cpu()
        difference = (engine.score(self._questions).softmax(-1) - mine).abs().amax(-1)
        worst = float(difference.max())
        if not worst <= self.tolerance:
            row = self.rows[int(difference.nan_to_num(torch.inf).argmax())]
            raise WeightsDifferError(
                f"vLLM answers with other weights than the model's: a label's probability differs by {worst:.2g} (prompt "
                f"{row.prompt!r}, dimension {row.dimension}), allowed is {self.tolerance:g} (vllm.tolerance). Nothing was "
                "sampled with them; use engine generate, or a vLLM version that docs/guides/vllm.md names as tried"
            )
        return worst


def precision_of(model: RewardModel) -> torch.dtype:
    """What passes compute in."""
    return model.computed_in or model.backbone.base.dtype
