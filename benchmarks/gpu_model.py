"""The model that `gpu.py` measures: the architecture of Qwen3.5-9B with random weights, or the same architecture, tiny.

Imports only what commit 07f77a1 has as well: `gpu.py --before` measures another tree's code with it.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from small_models import WORDS, photograph, tokenizer_of
from torch import Tensor

from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

# This tree's, whichever code is measured.
_CONFIGURATIONS = Path(__file__).resolve().parent.parent / "zreward" / "planning" / "configurations"
_NINE_B = json.loads((_CONFIGURATIONS / "qwen3.5-9b.json").read_text(encoding="utf-8"))
TEXT: dict[str, Any] = _NINE_B["text_config"]
VISION: dict[str, Any] = _NINE_B["vision_config"]
ROPE = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25, "mrope_interleaved": True}
PROMPT_WORDS = 40
_PICTURES = 8  # that differ


@dataclass(frozen=True)
class Sizes:
    """What is measured: the sizes of the 9 B architecture by default."""

    text: dict[str, Any]  # of the language model's configuration
    vision: dict[str, Any]  # of the vision tower's
    side: int = 1024  # of pictures, pixels
    judged_tokens: int = 256  # of a trace in `judge`
    trained_tokens: int = 128  # of a trace in a GDSO step
    files: int = 64  # to label
    most: int = 32  # pictures in a batch; rows that say more take so many
    parameters: int | None = None  # that the model has to have; None: any


NINE_B = Sizes(TEXT, VISION, parameters=9_409_813_744)
TINY = replace(
    NINE_B,
    text=TEXT | {
        "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "max_position_embeddings": 4096,
    },
    vision=VISION | {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "num_position_embeddings": 16,
                     "out_hidden_size": 64},
    side=64, judged_tokens=4, trained_tokens=4, files=6, most=2, parameters=None,
)  # fmt: skip


def network(sizes: Sizes, tokenizer: Any, device: torch.device) -> Any:
    """Random bfloat16 weights, made where they are used. With a device of "meta": without weights."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    third = sizes.text["head_dim"] // 8 // 3  # a quarter of a head turns, in pairs
    rope = ROPE | {"mrope_section": [sizes.text["head_dim"] // 8 - 2 * third, third, third]}
    layers = [("linear_attention",) * 3 + ("full_attention",)] * (sizes.text["num_hidden_layers"] // 4)
    text = sizes.text | {"layer_types": [kind for four in layers for kind in four], "rope_parameters": rope}
    config = Qwen3_5Config(text_config=text, vision_config=sizes.vision, tie_word_embeddings=False, **ids)
    with torch.device(device):
        return Qwen3_5ForConditionalGeneration._from_config(config, dtype=torch.bfloat16)


def parameters_of(network: Any) -> int:
    return sum(each.numel() for each in network.parameters())


class Bench:
    """What rows share. The model is made when it is first asked for."""

    def __init__(self, sizes: Sizes, device: torch.device, folder: Path) -> None:
        self.sizes, self.device, self.folder = sizes, device, folder

    @cached_property
    def model(self) -> RewardModel:
        rubric, forms = Rubric.default(), PromptForms()
        tokenizer = tokenizer_of(rubric, forms)
        if self.sizes.parameters:
            found = parameters_of(network(self.sizes, tokenizer, torch.device("meta")))
            if found != self.sizes.parameters:
                raise ValueError(f"the configuration has {found:,} parameters, expected {self.sizes.parameters:,}")
        torch.manual_seed(0)
        policy = ResolutionPolicy(longest_side=self.sizes.side)
        made = network(self.sizes, tokenizer, self.device).eval().requires_grad_(False)
        return RewardModel(made, tokenizer, rubric, forms, policy).eval()

    def free(self) -> None:
        """Give the model's memory back."""
        self.__dict__.pop("model", None)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def _drawn(self) -> list[Image.Image]:
        return [photograph(self.sizes.side, seed) for seed in range(_PICTURES)]

    def pictures(self, count: int) -> list[Image.Image]:
        return list(islice(cycle(self._drawn), count))

    def prompts(self, count: int) -> list[str]:
        rng = np.random.default_rng(0)
        return [" ".join(rng.choice(WORDS, PROMPT_WORDS)) for _ in range(count)]

    def pixels(self, count: int) -> Tensor:
        """(N, 3, H, W), on the device, to be differentiated to."""
        stacked = np.stack([np.asarray(picture) for picture in self.pictures(count)])
        return (torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2) / 255).contiguous().requires_grad_()


@dataclass(frozen=True)
class Cost:
    """Of a call: median seconds, and at most so much memory of a card in use (GiB; `added`: above what was in use before)."""

    seconds: float
    peak: float | None
    added: float | None

    def figures(self) -> dict[str, float]:
        return {} if self.peak is None else {"peak_gib": self.peak}


def measure(device: torch.device, calls: Sequence[Callable[[], object]], rounds: int = 2) -> list[Cost]:
    """Calls that take turns; the first round warms up."""
    found: list[list[tuple[float, float, float]]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for mine, call in zip(found, calls, strict=True):
            one = _once(device, call)
            if number:
                mine.append(one)
    on_card = device.type == "cuda"
    return [
        Cost(statistics.median(seconds), max(peaks) if on_card else None, max(added) if on_card else None)
        for seconds, peaks, added in (zip(*mine, strict=True) for mine in found)
    ]


def _once(device: torch.device, call: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds, GiB in use at most, and GiB above those in use before."""
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    begin = time.perf_counter()
    call()
    if device.type != "cuda":
        return time.perf_counter() - begin, 0.0, 0.0
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return time.perf_counter() - begin, peak / 2**30, (peak - before) / 2**30
