"""An engine that a trainer can be tried with where vLLM is not: plain passes over the weights that it was brought.

It reads adapters and weights from their folders, as vLLM does, and samples by the same seeds whatever the batch. What vLLM does
differently (kernels, caches) is tried with vLLM itself: tests/sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zreward.models.draws import draw, uniforms
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.tokens import expand_images
from zreward.sampling.questions import Question, Sampled, TokenRules


class StandInEngine:
    """In the place of `LocalVllm`."""

    def __init__(
        self,
        folder: Path,
        rules: TokenRules,
        options: Any,
        dtype: torch.dtype,
        device: torch.device,
        pictures: int,
        lora_rank: int | None,
        prefix_caching: bool | None,
    ) -> None:
        self.rules, self.lora_rank = rules, lora_rank
        self.loaded: list[str] = []
        self.shift = 0.0  # added to every log-probability that it reports: an engine that is not quite the policy
        self._read(folder)

    def _read(self, folder: Path) -> None:
        from transformers import AutoModelForImageTextToText

        self.network: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def load_weights(self, folder: Path) -> None:
        self.loaded.append("weights")
        self._read(folder)

    def load_adapter(self, folder: Path) -> None:
        from peft import PeftModel

        self.loaded.append("adapter")
        base = self.network.unload() if hasattr(self.network, "peft_config") else self.network
        self.network = PeftModel.from_pretrained(base, str(folder)).eval()

    def close(self) -> None:
        self.loaded.append("closed")

    def score(self, questions: Sequence[Question]) -> Tensor:
        return torch.stack([self._next(one.ids, one)[list(self.rules.labels)] for one in questions])

    def sample(self, questions: Sequence[Question], temperature: float, seeds: Sequence[int]) -> list[Sampled]:
        return [self._trace(one, temperature, seed) for one, seed in zip(questions, seeds, strict=True)]

    def _trace(self, question: Question, temperature: float, seed: int) -> Sampled:
        ids: list[int] = []
        log_probs: list[float] = []
        for uniform in uniforms([seed], self.rules.budget)[0]:
            logits = self._next([*question.ids, *ids], question) / (temperature or 1.0)
            logits[list(self.rules.banned)] = float("-inf")
            drawn = draw(logits.softmax(-1)[None], uniform[None])[0] if temperature else logits.argmax()
            chosen = int(drawn)
            ids.append(chosen)
            log_probs.append(float(logits.log_softmax(-1)[chosen]) + self.shift)
            if chosen == self.rules.stop_id:
                break
        return Sampled(Trace(tuple(ids), truncated=ids[-1] != self.rules.stop_id), log_probs)

    @torch.no_grad()
    def _next(self, ids: list[int], question: Question) -> Tensor:
        """Logits (V,) of the next token, by the model's own forward pass."""
        layout, token = self.layout, self.network.config.image_token_id
        parts = [layout.patchify(picture) for picture in question.pictures]
        grids = torch.tensor([grid for _, grid in parts])
        whole = torch.tensor([expand_images(ids, token, [layout.tokens(grid) for _, grid in parts])])
        return (
            self.network(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                pixel_values=torch.cat([part for part, _ in parts]),
                image_grid_thw=grids,
                mm_token_type_ids=(whole == token).int(),
            )
            .logits[0, -1]
            .float()
        )

    @property
    def layout(self) -> Any:
        from zreward.models.layouts import layout_of

        core = self.network.get_base_model() if hasattr(self.network, "peft_config") else self.network
        return layout_of(core)


def engine_of(trainer: Any) -> StandInEngine:
    engine = trainer.sampler.engine
    assert isinstance(engine, StandInEngine)
    return engine


def probs_of(model: RewardModel, canary: Any) -> Tensor:
    """The model's own answers to a canary's questions."""
    with torch.no_grad():
        return model.eval().backbone(model.collate(canary.images, canary.rows)).score_logits.softmax(-1)
