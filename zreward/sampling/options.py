"""How vLLM is started or reached; none of it changes what is sampled, up to rounding."""

from __future__ import annotations

from dataclasses import dataclass

from zreward.common.errors import InputError, check_counts


@dataclass(frozen=True)
class VllmOptions:
    server: str | None = None  # address of a vLLM server on this machine, with GPUs of its own; default: this process
    max_length: int = 8192  # the most tokens of prompt, picture, trace and answer; at most the model's own context
    max_sequences: int = 256  # sequences that are sampled at a time
    memory: float = 0.3  # share of the GPU's memory for the engine: its copy of the weights, keys and values
    cache_gib: float | None = None  # GiB of keys and values; default: what `memory` leaves, on CPUs 1
    eager: bool = False  # no CUDA graphs: a shorter start, slower sampling
    tolerance: float | None = None  # largest difference of a label's probability; default .0005, in half precision .05

    def __post_init__(self) -> None:
        check_counts(max_length=self.max_length, max_sequences=self.max_sequences)
        if not 0 < self.memory < 1:
            raise InputError(f"vllm.memory is {self.memory}, expected a share above 0 and below 1")
        for key in ("cache_gib", "tolerance"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise InputError(f"vllm.{key} is {value}, expected more than 0")
