"""A teacher that labels with vLLM: the reward model reads and prepares the questions, the engine answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from zreward.common.errors import check_counts, check_temperature, counted
from zreward.common.texts import match_prompts
from zreward.distribution import ScoreDistribution
from zreward.models.batches import prefetch_windows
from zreward.models.checkpoint_files import META_FILE, find_folder
from zreward.models.devices import find_device, find_dtype
from zreward.models.names import find_model
from zreward.models.pixels import as_pictures
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.models.teacher import plain_prompts, single_pictures
from zreward.prompting import Texts
from zreward.sampling.local import check_installed
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import rules_of
from zreward.sampling.sampler import EngineSampler

_CANARIES = 2  # pictures: the model itself runs on the CPU


class VllmTeacher:
    """The part of `RewardModel` that labelling uses, for items of one picture. The engine starts with the first one.

    Args:
        model: a model as it was loaded, on the CPU: a GPU is the engine's.
        options: how vLLM is started.
        device: the engine's.
    """

    any_sequence: ClassVar[bool] = False

    def __init__(self, model: RewardModel, options: VllmOptions, device: torch.device) -> None:
        if options.server is None:
            check_installed()
        rules_of(model)
        self.model, self.options, self.device = model, options, device
        self.rubric, self.forms, self.calibrations = model.rubric, model.forms, model.calibrations
        self._sampler: EngineSampler | None = None
        self._asked, self._difference = 0, 0.0

    @classmethod
    def from_pretrained(cls, name: str, options: VllmOptions) -> VllmTeacher:
        """A checkpoint or adapter by name. InputError as `RewardModel.from_pretrained`, and where vLLM is missing."""
        if options.server is None:
            check_installed()
        device = find_device(None)
        recorded = (find_folder(find_model(name)) / META_FILE).exists()
        dtype = None if recorded else find_dtype(None, device)
        return cls(RewardModel.from_pretrained(name, device="cpu", dtype=dtype), options, device)

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on. Traces are drawn by another sampler than the model's own."""
        return self.model.fingerprint() | {"engine": "vllm"}

    def check_dimensions(self, dimensions: Sequence[str] | None) -> tuple[str, ...]:
        return self.model.check_dimensions(dimensions)

    def judge(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        traces: int = 1,
        dimensions: Sequence[str] | None = None,
        temperature: float = 1.0,
        batch_size: int | None = None,
        answers: Sequence[str | None] | str | None = None,
    ) -> list[Judgement]:
        """`RewardModel.judge`, of items of one picture."""
        images = single_pictures(as_pictures(images), answers, "vLLM")
        prompts, names = match_prompts(prompts, len(images)), self.check_dimensions(dimensions)
        check_counts(traces=traces, batch_size=batch_size)
        check_temperature(temperature)
        judged: list[Judgement] = []
        windows = prefetch_windows(self.model.decode, images, prompts, batch_size or len(images))
        for first, opened, texts in windows:
            with counted(first, what=images):
                judged += self._started(opened, texts, names).judge(opened, texts, traces, names, temperature)
        return judged

    def score_windows(
        self,
        shown: Sequence[tuple[Any, ...]],
        prompts: Sequence[str | Texts],
        names: tuple[str, ...],
        window: int,
        batch_size: int | None = None,
        token_budget: int | None = None,
    ) -> Iterator[ScoreDistribution]:
        """`RewardModel.score_windows`; vLLM makes batches of its own."""
        images, plain = single_pictures(shown, None, "vLLM"), plain_prompts(prompts, "vLLM")
        windows = prefetch_windows(self.model.decode, images, plain, window)
        for first, opened, texts in windows:
            with counted(first):
                part = self._started(opened, texts, names).score(opened, texts, names)
            yield part

    def report(self) -> str:
        """What was asked, as a line for people."""
        return (
            f"vLLM answered {self._asked:,} questions; at its start, label probabilities were within {self._difference:.1g} of "
            "the model's own"
        )

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def _started(self, images: list[Tensor], prompts: Sequence[str], names: tuple[str, ...]) -> EngineSampler:
        if self._sampler is None:
            few = images[:_CANARIES]
            rows = [Row((i,), prompts[i], name) for i in range(len(few)) for name in names]
            self._sampler = EngineSampler(self.model, self.options, (few, rows), self.device)
            self._difference = self._sampler.start()
        self._asked += len(images) * len(names)
        return self._sampler
