"""vLLM as a server, on GPUs of its own (`vllm.server`). It reads adapters and weights from this machine's disk.

It is started with the same base as the trainer:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1 vllm serve BASE --enable-scale-out --generation-config vllm
        --logprobs-mode processed_logprobs --enable-lora --max-lora-rank 64 --limit-mm-per-prompt '{"image": 1, "video": 0}'

Pictures travel as PNG: those that zreward had to resize are rounded to 8 bits, which moves a label's probability by about 1e-4.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from zreward.common.errors import InputError, shorten
from zreward.models.rollout import Trace
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Question, Sampled, TokenRules, sampling_params, scoring_params

_FINAL = 2  # vLLM's number for an answer in one piece
_WAIT = 1800.0  # seconds for one answer: a server works off its queue


class ServerVllm:
    """An `Engine`.

    Args:
        rules: stop marker, banned tokens and labels.
        options: with the server's address.
        on_cpu: whether the server runs on CPUs, with `zreward.sampling.cpu_worker` in its workers.
        leads: of several processes that ask this server, the one that brings weights over.

    Raises:
        InputError: no server answers there.
    """

    def __init__(self, rules: TokenRules, options: VllmOptions, on_cpu: bool, leads: bool = True) -> None:
        import httpx

        from zreward.common.http import parse_address

        self.rules, self.on_cpu, self.leads = rules, on_cpu, leads
        self.address = str(parse_address(str(options.server))).rstrip("/")
        limits = httpx.Limits(max_connections=options.max_sequences)
        self._client = httpx.Client(base_url=self.address, timeout=httpx.Timeout(_WAIT, connect=10.0), limits=limits)
        self._threads = ThreadPoolExecutor(options.max_sequences)
        self.model = self._call("GET", "/v1/models")["data"][0]["id"]
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
        return torch.tensor([self._labels(answer["logprobs"]["content"][0]) for answer in answers])

    def load_adapter(self, folder: Path) -> None:
        before = self._adapter
        self._adapters += 1
        self._adapter = f"zreward-{self._adapters}"
        if not self.leads:
            return
        # A run before may have left one of this name. (`load_inplace` would read the folder again with every request.)
        self._client.post("/v1/unload_lora_adapter", json={"lora_name": self._adapter})
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
            parts = [{"type": "image_url", "url": _png(picture)} for picture in question.pictures]
            body = {"model": self._adapter or self.model, "token_ids": question.ids, "content_parts": parts}
            answer = self._call(
                "POST", "/inference/v1/generate", body | {"sampling_params": chosen | {"output_kind": _FINAL}}
            )
            return answer["choices"][0]

        return list(self._threads.map(ask, questions, params))

    def _sampled(self, answer: dict[str, Any]) -> Sampled:
        ids = tuple(answer["token_ids"])
        log_probs = [entry["logprob"] for entry in answer["logprobs"]["content"]]
        return Sampled(Trace(ids, truncated=ids[-1] != self.rules.stop_id), log_probs)

    def _labels(self, entry: dict[str, Any]) -> list[float]:
        found = {each["token_id"]: each["logprob"] for each in (entry, *entry["top_logprobs"])}
        return [found[label] for label in self.rules.labels]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx

        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise InputError(
                f"vllm.server {self.address}{path}: {error or type(error).__name__}; is it running?"
            ) from None
        if answer.status_code != 200:
            raise InputError(
                f"vllm.server {self.address}{path}: status {answer.status_code}, {shorten(answer.text, 300)}; start it as "
                "docs/guides/vllm.md says"
            )
        kind = answer.headers.get("content-type", "")
        return answer.json() if kind.startswith("application/json") else answer.text


def _png(picture: Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray((picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(
        file, "PNG", compress_level=1
    )
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
