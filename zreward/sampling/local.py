"""vLLM in this process: its own `LLM` class, one GPU (or the CPU) for the engine and the trainer together."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.models.rollout import Trace
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Question, Sampled, TokenRules, sampling_params, scoring_params

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, that vLLM reserves room for
_GIB = 1 << 30


class LocalVllm:
    """An `Engine`.

    Args:
        folder: a Hugging Face model.
        rules: its stop marker, banned tokens and labels.
        options: how it is started.
        dtype: what it computes in.
        device: one that this process uses too.
        pictures: of a question, at most.
        lora_rank: of adapters that will be loaded; None: there will be none.
        prefix_caching: default vLLM's own choice.

    Raises:
        InputError: vLLM does not start.
    """

    def __init__(
        self,
        folder: Path,
        rules: TokenRules,
        options: VllmOptions,
        dtype: torch.dtype,
        device: torch.device,
        pictures: int = 1,
        lora_rank: int | None = None,
        prefix_caching: bool | None = None,
    ) -> None:
        self.rules, self.on_cpu = rules, device.type == "cpu"
        self._adapter: Any = None
        self._adapters = 0
        _set_environment(self.on_cpu)
        with _as_it_was():
            from vllm import LLM

            settings = _settings(options, dtype, self.on_cpu) | {"limit_mm_per_prompt": {"image": pictures, "video": 0}}
            settings |= {"enable_prefix_caching": prefix_caching} | _adapter_settings(lora_rank)
            try:
                self.llm: Any = LLM(str(folder), **settings)
            except (ValueError, RuntimeError, AssertionError, NotImplementedError) as error:
                raise InputError(
                    f"vLLM does not start with {folder}: {str(error).strip() or type(error).__name__}; set vllm.max_length, "
                    "vllm.memory or vllm.cache_gib to what the machine has, or use engine generate"
                ) from error

    def sample(self, questions: Sequence[Question], temperature: float, seeds: Sequence[int]) -> list[Sampled]:
        from vllm import SamplingParams

        params = [SamplingParams(**sampling_params(self.rules, temperature, seed)) for seed in seeds]
        return [self._sampled(answer) for answer in self._generate(questions, params)]

    def score(self, questions: Sequence[Question]) -> Tensor:
        from vllm import SamplingParams

        labels = list(self.rules.labels)
        params = SamplingParams(**scoring_params(self.rules))
        answers = self._generate(questions, [params] * len(questions))
        return torch.tensor([[answer.logprobs[0][label].logprob for label in labels] for answer in answers])

    def load_adapter(self, folder: Path) -> None:
        from vllm.lora.request import LoRARequest

        if self._adapter is not None:
            self.llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapters += 1  # keys and values are cached by an adapter's name
        self._adapter = LoRARequest(f"step-{self._adapters}", self._adapters, str(folder))
        with _as_it_was():
            self.llm.llm_engine.add_lora(self._adapter)

    def load_weights(self, folder: Path) -> None:
        with _as_it_was():
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if self.on_cpu:
                self.llm.collective_rpc("repack_tied_head")
        self.forget()

    def forget(self) -> None:
        """Drop pictures' features, keys and values: they were computed with older weights."""
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        cleanup_dist_env_and_memory()

    def _generate(self, questions: Sequence[Question], params: list[Any]) -> list[Any]:
        with _as_it_was():
            answers = self.llm.generate(
                [_prompt(question) for question in questions], params, lora_request=self._adapter, use_tqdm=False
            )
        return [answer.outputs[0] for answer in answers]

    def _sampled(self, answer: Any) -> Sampled:
        ids = tuple(answer.token_ids)
        log_probs = [found[token].logprob for found, token in zip(answer.logprobs, ids, strict=True)]
        return Sampled(Trace(ids, truncated=ids[-1] != self.rules.stop_id), log_probs)


def check_installed() -> None:
    """InputError where vLLM is missing."""
    if find_spec("vllm") is None:
        raise InputError(
            "engine vllm needs vllm, which is not installed; pip install 'zreward[vllm]', or use engine generate"
        )


def _prompt(question: Question) -> dict[str, Any]:
    """Floats up to 255: pictures that were resized do not become whole numbers again."""
    return {
        "prompt_token_ids": question.ids,
        "multi_modal_data": {"image": [(picture * 255).numpy() for picture in question.pictures]},
        "mm_processor_kwargs": {"images_kwargs": {"do_resize": False}},
    }


def _settings(options: VllmOptions, dtype: torch.dtype, on_cpu: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "max_model_len": options.max_length,
        "max_num_seqs": options.max_sequences,
        "gpu_memory_utilization": options.memory,
        "enforce_eager": options.eager or on_cpu,
        "skip_mm_profiling": on_cpu,
        "logprobs_mode": "processed_logprobs",  # those of the distribution that is sampled from
        "generation_config": "vllm",  # a checkpoint's own penalties would not be in the trainer's log-probabilities
        "disable_log_stats": True,
    }
    if options.cache_gib or on_cpu:
        settings["kv_cache_memory_bytes"] = int((options.cache_gib or 1) * _GIB)
    if on_cpu:
        settings["worker_extension_cls"] = "zreward.sampling.cpu_worker.CpuWorker"
    return settings


def _adapter_settings(lora_rank: int | None) -> dict[str, Any]:
    if not lora_rank:
        return {}
    fitting = next((rank for rank in _RANKS if rank >= lora_rank), None)
    if fitting is None:
        raise InputError(
            f"model.lora_rank is {lora_rank}; vLLM takes adapters up to rank {_RANKS[-1]}: lower it, or use engine generate"
        )
    return {"enable_lora": True, "max_lora_rank": fitting, "max_loras": 1}


def _set_environment(on_cpu: bool) -> None:
    """Before vLLM is imported. What a user has set stays."""
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: its memory and devices are this process's
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if on_cpu:
        settings |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Random states, threads and the default number format as before: vLLM seeds and sets them for the whole process."""
    python, arrays = random.getstate(), np.random.get_state()
    set_threads, threads, dtype = torch.set_num_threads, torch.get_num_threads(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_num_threads = set_threads  # on CPUs vLLM puts one in its place that does nothing
        set_threads(threads)
        torch.set_default_dtype(dtype)
