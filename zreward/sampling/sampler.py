"""A reward model whose traces and scores come from an engine with a copy of its weights.

Shapes: N items, D dimensions, K traces of a question, S score bins.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zreward.distribution import ScoreDistribution
from zreward.models.reasoning import Judgement, judgements_of
from zreward.models.rows import Row
from zreward.sampling.canary import Canary, precision_of
from zreward.sampling.local import LocalVllm, check_installed
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Engine, Sampled, questions_of, rules_of
from zreward.sampling.server import ServerVllm
from zreward.sampling.weights import adapter_rank, write_adapter, write_weights

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel


class EngineSampler:
    """Samples and judges with vLLM. `sync` brings the model's present weights over, and checks that they arrived.

    Args:
        model: the reward model.
        options: how vLLM is started.
        canary: pictures and questions for the check after every update.
        device: the engine's; default the model's own.
        processes: accelerate's `Accelerator`, where several of them ask one server: the first one brings the weights over.
    """

    def __init__(
        self,
        model: RewardModel,
        options: VllmOptions,
        canary: tuple[Sequence[Tensor], Sequence[Row]],
        device: torch.device | None = None,
        processes: Any = None,
    ) -> None:
        if options.server is None:
            check_installed()
        self.model, rules = model, rules_of(model)
        self.canary = Canary(model, *canary, options.tolerance)
        self._files = tempfile.TemporaryDirectory(prefix="zreward-vllm-")
        self._rank = adapter_rank(model)
        self._processes, self._leads = processes, processes is None or processes.is_main_process
        context = min(options.max_length, model.context or options.max_length)
        pictures = 2 if model.forms.reference else 1
        where, cached = device or model.device, False if _is_hybrid_in_name_only(model) else None
        self.engine: Engine
        if options.server is not None:
            self.engine = ServerVllm(rules, options, where.type == "cpu", self._leads)
        else:
            how = (replace(options, max_length=context), precision_of(model), where, pictures, self._rank, cached)
            self.engine = LocalVllm(self._start_folder(), rules, *how)

    def start(self) -> float:
        """As `sync`, of a model as it was loaded: the engine read the same files, only an adapter is missing there."""
        if hasattr(self.model.backbone.model, "peft_config"):
            return self.sync()
        return self.canary.check(self.engine)

    def sync(self) -> float:
        """Bring the model's weights to the engine.

        Returns:
            The largest difference of a label's probability that the check found.

        Raises:
            WeightsDifferError: they did not arrive.
        """
        # Always the same folder: it stays, since vLLM reads the picture processor's files when it first needs them.
        folder = Path(self._files.name) / "update"
        write, load = (
            (write_adapter, self.engine.load_adapter) if self._rank else (write_weights, self.engine.load_weights)
        )
        if self._leads:
            shutil.rmtree(folder, ignore_errors=True)
        if self._leads or self.model.backbone.is_sharded:
            write(self.model, folder, self._leads)
        load(folder)
        if self._processes is not None:
            self._processes.wait_for_everyone()
        return self.canary.check(self.engine)

    def reason(
        self, images: Sequence[Tensor], rows: Sequence[Row], temperature: float, seeds: Sequence[int] | None = None
    ) -> list[Sampled]:
        """One trace for every row, with its tokens' log-probabilities. Missing seeds are drawn from torch's random state."""
        if seeds is None:
            seeds = torch.randint(1 << 62, (len(rows),)).tolist()
        return self.engine.sample(questions_of(self.model, images, rows, start=True), temperature, seeds)

    def score(self, images: Sequence[Tensor], prompts: Sequence[str], names: tuple[str, ...]) -> ScoreDistribution:
        """Label distributions (N, D, S) without reasoning."""
        rows = [Row((i,), prompt, name) for i, prompt in enumerate(prompts) for name in names]
        return self.model.distribution(self.engine.score(questions_of(self.model, images, rows, start=False)), names)

    def judge(
        self,
        images: Sequence[Tensor],
        prompts: Sequence[str],
        traces: int,
        names: tuple[str, ...],
        temperature: float,
        seeds: Sequence[int] | None = None,
    ) -> list[Judgement]:
        """Reason, then score, like `RewardModel.judge`.

        Args:
            images: N pictures that the model's `decode` returned.
            prompts: one text per image.
            traces: K.
            names: D dimensions.
            temperature: of sampling; 0 is greedy.
            seeds: N * D * K, the last axis fastest; default drawn from torch's random state.
        """
        rows = [Row((i,), prompt, name) for i, prompt in enumerate(prompts) for name in names for _ in range(traces)]
        found = [sampled.trace for sampled in self.reason(images, rows, temperature, seeds)]
        answered = [replace(row, trace=trace) for row, trace in zip(rows, found, strict=True)]
        logits = self.engine.score(questions_of(self.model, images, answered, start=False))
        probs_NKDS = logits.softmax(-1).view(len(images), len(names), traces, -1).transpose(1, 2)
        by_name = {
            name: [trace for row, trace in zip(rows, found, strict=True) if row.dimension == name] for name in names
        }
        return judgements_of(self.model, by_name, probs_NKDS)

    def close(self) -> None:
        self.engine.close()
        self._files.cleanup()

    def _start_folder(self) -> Path:
        """Where the engine's first weights are: the base's own files where there are some, else a copy."""
        if self.model.base is not None:
            return self.model.base.folder
        folder = Path(self._files.name) / "start"
        write_weights(self.model, folder, merge=self._rank is None)
        return folder


def _is_hybrid_in_name_only(model: RewardModel) -> bool:
    """Qwen3.5 without a linear-attention layer: vLLM's prefix cache for such models expects one."""
    text = model.backbone.base.config.get_text_config()
    return hasattr(text, "linear_num_key_heads") and "linear_attention" not in text.layer_types
