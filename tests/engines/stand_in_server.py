"""One engine for all processes of a launch, where vLLM's server is not: each has a copy that reads what the first one wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import distributed as dist
from transformers.integrations import deepspeed

from tests.training.stand_in_engine import StandInEngine
from zreward.sampling.questions import TokenRules


class StandInServer(StandInEngine):
    """In the place of `ServerVllm`; `vllm.server` is the folder of the base model."""

    def __init__(self, rules: TokenRules, options: Any, on_cpu: bool, leads: bool) -> None:
        assert on_cpu, "the trainer's device is the CPU"
        super().__init__(Path(options.server), rules, options, *[None] * 5)  # type: ignore[arg-type]

    def _read(self, folder: Path) -> None:
        configured = deepspeed._hf_deepspeed_config_weak_ref
        deepspeed._hf_deepspeed_config_weak_ref = None  # this network is not the trainer's: ZeRO-3 would split it
        super()._read(_of_the_first(folder))
        deepspeed._hf_deepspeed_config_weak_ref = configured

    def load_adapter(self, folder: Path) -> None:
        super().load_adapter(_of_the_first(folder))


def _of_the_first(folder: Path) -> Path:
    named = [str(folder)]
    if dist.is_initialized():
        dist.broadcast_object_list(named, 0)
    return Path(named[0])
