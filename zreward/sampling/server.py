"""vLLM as a server, on GPUs of its own (`vllm.server`). It reads adapters and weights from this machine's disk.

It is started with the same base as the trainer:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1 vllm serve BASE --enable-scale-out --generation-config vllm
        --logprobs-mode processed_logprobs --enable-lora --max-lora-rank 64 --limit-mm-per-prompt '{"image": 1, "video": 0}'

Pictures travel as PNG: those that zreward had to resize are rounded to 8 bits, which moves a tiny model's label probabilities by
up to 1e-3.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zreward.common.errors import InputError, plain, shorten, shown
from zreward.models.pixels import png_uri
from zreward.models.rollout import Trace
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Question, Sampled, TokenRules, sampling_params, scoring_params

_FINAL = 2  # vLLM's number for an answer in one piece
_WAIT = 1800.0  # seconds for one answer: a server works off its queue
_LARGEST = 64 << 20  # bytes of an answer
_LEAST = 1e9  # of a log-probability, below 0
_GENERATE = "/inference/v1/generate"


class ServerVllm:
    """An `Engine`.

    Args:
        rules: stop marker, banned tokens and labels.
        options: with the server's address.
        on_cpu: whether the server runs on CPUs, with `zreward.sampling.cpu_worker` in its workers.
        leads: of several processes that ask this server, the one that brings weights over.

    Raises:
        InputError: no server answers there. The methods raise it for answers that are not vLLM's: no number is used unchecked.
    """

    def __init__(self, rules: TokenRules, options: VllmOptions, on_cpu: bool, leads: bool = True) -> None:
        import httpx

        from zreward.common.http import environment_errors, is_here, parse_address

        self.rules, self.on_cpu, self.leads = rules, on_cpu, leads
        address = parse_address(str(options.server))
        if address.userinfo or address.query or address.fragment:
            raise InputError(
                "vllm.server: expected an address without user, query and #, such as http://127.0.0.1:8000"
            )
        self.address = str(address).rstrip("/")
        limits = httpx.Limits(max_connections=options.max_sequences)
        timeout = httpx.Timeout(_WAIT, connect=10.0)
        headers = {"Accept-Encoding": "identity"}
        with environment_errors():
            self._client = httpx.Client(
                base_url=self.address,
                timeout=timeout,
                limits=limits,
                headers=headers,
                trust_env=not is_here(address.host),
            )
        self._threads = ThreadPoolExecutor(options.max_sequences)
        with self._checked("/v1/models"):
            self.model = _text(self._call("GET", "/v1/models")["data"][0]["id"])
        self._adapter: str | None = None
        self._adapters = 0

    def sample(self, questions: Sequence[Question], temperature: float, seeds: Sequence[int]) -> list[Sampled]:
        params = [sampling_params(self.rules, temperature, seed) for seed in seeds]
        return [self._sampled(answer) for answer in self._generate(questions, params)]

    def score(self, questions: Sequence[Question]) -> Tensor:
        # The sampled token comes first in the list, so it has to be a label too.
        labels = list(self.rules.labels)
        params = scoring_params(self.rules) | {"allowed_token_ids": labels, "logprobs": len(labels)}
        answers = self._generate(questions, [params] * len(questions))
        with self._checked(_GENERATE):
            return torch.tensor([self._labels(answer["logprobs"]["content"][0]) for answer in answers])

    def load_adapter(self, folder: Path) -> None:
        before = self._adapter
        self._adapters += 1
        self._adapter = f"zreward-{self._adapters}"
        if not self.leads:
            return
        # A run before may have left one of this name. (`load_inplace` would read the folder again with every request.)
        self._request("POST", "/v1/unload_lora_adapter", {"lora_name": self._adapter})
        place = {"lora_name": self._adapter, "lora_path": str(folder.resolve())}
        self._call("POST", "/v1/load_lora_adapter", place)
        self._call("POST", "/reset_prefix_cache")
        if before is not None:
            self._call("POST", "/v1/unload_lora_adapter", {"lora_name": before})

    def load_weights(self, folder: Path) -> None:
        if not self.leads:
            return
        path = {"weights_path": str(folder.resolve())}
        self._call("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": path})
        if self.on_cpu:
            self._call("POST", "/collective_rpc", {"method": "repack_tied_head"})
        for cache in ("mm", "encoder", "prefix"):
            self._call("POST", f"/reset_{cache}_cache")

    def close(self) -> None:
        self._threads.shutdown()
        self._client.close()

    def _generate(self, questions: Sequence[Question], params: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        def ask(question: Question, chosen: dict[str, Any]) -> dict[str, Any]:
            parts = [{"type": "image_url", "url": png_uri(picture, compress_level=1)} for picture in question.pictures]
            body = {"model": self._adapter or self.model, "token_ids": question.ids, "content_parts": parts}
            answer = self._call("POST", _GENERATE, body | {"sampling_params": chosen | {"output_kind": _FINAL}})
            with self._checked(_GENERATE):
                return answer["choices"][0]

        return list(self._threads.map(ask, questions, params))

    def _sampled(self, answer: dict[str, Any]) -> Sampled:
        with self._checked(_GENERATE):
            ids = tuple(map(_token, answer["token_ids"]))
            log_probs = [_log_prob(entry["logprob"]) for entry in answer["logprobs"]["content"]]
            if not 0 < len(ids) == len(log_probs) <= self.rules.budget:
                raise ValueError(
                    f"{len(ids)} tokens with {len(log_probs)} log-probabilities, where at most {self.rules.budget} were asked for"
                )
            banned = set(ids) & set(self.rules.banned)
            if banned:
                raise ValueError(f"token {min(banned)}, which was forbidden")
        return Sampled(Trace(ids, truncated=ids[-1] != self.rules.stop_id), log_probs)

    def _labels(self, entry: dict[str, Any]) -> list[float]:
        found = {each["token_id"]: each["logprob"] for each in (entry, *entry["top_logprobs"])}
        return [_log_prob(found[label]) for label in self.rules.labels]

    @contextmanager
    def _checked(self, path: str) -> Iterator[None]:
        """InputError for an answer that is read in here and is another one than vLLM's."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            what = f"no {error}" if isinstance(error, KeyError) else shorten(error, 200)
            raise InputError(
                f"vllm.server {self.address}{path}: the answer is not that of a vLLM server which was started as "
                f"docs/guides/vllm.md says: {what}"
            ) from None

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        status, kind, content = self._request(method, path, body)
        if status != 200:
            text = shorten(plain(" ".join(content[:10_000].decode(errors="replace").split())), 300)
            raise InputError(
                f"vllm.server {self.address}{path}: status {status}, {text}; start it as docs/guides/vllm.md says"
            )
        with self._checked(path):
            return json.loads(content, parse_constant=_refuse) if kind.startswith("application/json") else content

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str, bytes]:
        """Status, type and content of an answer, whose size and time are limited."""
        import httpx

        end, content = time.monotonic() + _WAIT, bytearray()
        try:
            with self._client.stream(method, path, json=body) as answer:
                for part in answer.iter_raw():
                    content += part
                    if len(content) > _LARGEST or time.monotonic() > end:
                        raise InputError(
                            f"vllm.server {self.address}{path}: an answer of more than {_LARGEST >> 20} MiB, or "
                            f"{_WAIT:g} seconds; is it a vLLM server?"
                        )
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise InputError(f"vllm.server {self.address}{path}: {what}; is it running?") from None
        return answer.status_code, answer.headers.get("content-type", ""), bytes(content)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{shown(value)}, expected the name of a model")
    return value


def _token(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ValueError(f"{shown(value)}, expected the number of a token")
    return value


def _log_prob(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -_LEAST <= value <= 1e-3:
        raise ValueError(f"{shown(value)}, expected a log-probability: a number of at most 0")
    return float(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name}, which is no number")
