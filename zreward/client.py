"""A client of `zreward serve`, blocking or not; it retries what is worth retrying.

client = RewardClient("http://127.0.0.1:8000")
scores = client.score(["a.png"], ["a red circle"])
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from typing import Any, NoReturn

import httpx
import torch
from PIL import Image
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from zreward.data.images import open_image
from zreward.distribution import ScoreDistribution
from zreward.errors import InputError

RETRIED = (408, 429, 500, 502, 503, 504)
LONGEST_WAIT = 600.0  # seconds: no server makes a client sleep for longer


class ServerError(RuntimeError):
    """The server did not answer after all retries."""


class RewardClient:
    """Scores images (paths, bytes or PIL images) on a server. Requests hold `chunk` images at most.

    One client serves many threads and keeps its connections; `close` it, or use it in a `with` block.
    Failures of the connection and the answers 408, 429 and 5xx are tried again `retries` times: after the seconds that
    the server names (600 at most), else after 0.5, 1, 2, ... seconds, a little shuffled.
    """

    def __init__(
        self, url: str, token: str | None = None, chunk: int = 16, retries: int = 5, timeout: float = 120.0
    ) -> None:
        self.url, self.chunk = url.rstrip("/"), chunk
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": headers,
            "timeout": timeout,
            "verify": httpx.create_ssl_context(),  # made once: it takes longer than a request
        }
        self._http = httpx.Client(**self._options)
        self._policy: dict[str, Any] = {
            "retry": retry_if_exception_type((_NoAnswer, httpx.TransportError)),
            "stop": stop_after_attempt(retries + 1),
            "wait": _pause,
            "retry_error_callback": self._give_up,
        }

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> dict[str, Any]:
        return self._http.get("/health").raise_for_status().json()

    def score(
        self, images: Sequence[Any], prompts: Sequence[str] | str, dimensions: Sequence[str] | None = None
    ) -> ScoreDistribution:
        """(N, D, S), as `RewardModel.score`. InputError for what the server refuses, ServerError for what fails."""
        return _joined([self._post(body) for body in self._bodies(images, prompts, dimensions)])

    async def ascore(
        self, images: Sequence[Any], prompts: Sequence[str] | str, dimensions: Sequence[str] | None = None
    ) -> ScoreDistribution:
        """The same without blocking."""
        async with httpx.AsyncClient(**self._options) as http:
            return _joined([await self._apost(http, body) for body in self._bodies(images, prompts, dimensions)])

    def _bodies(self, images, prompts, dimensions) -> list[dict[str, Any]]:
        texts = [prompts] * len(images) if isinstance(prompts, str) else list(prompts)
        if not images or len(texts) != len(images):
            raise InputError(
                f"{len(images)} images and {len(texts)} prompts; give one prompt per image, or one for all"
            )
        items = [{"prompt": text, "image": encode(image)} for image, text in zip(images, texts, strict=True)]
        names = list(dimensions) if dimensions is not None else None
        return [
            {"items": items[start : start + self.chunk], "dimensions": names}
            for start in range(0, len(items), self.chunk)
        ]

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        return Retrying(**self._policy)(lambda: _read(self._http.post("/v1/score", json=body)))

    async def _apost(self, http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            return _read(await http.post("/v1/score", json=body))

        return await AsyncRetrying(**self._policy)(attempt)

    def _give_up(self, state: RetryCallState) -> NoReturn:
        last = _failure(state)
        what = str(last) if isinstance(last, _NoAnswer) else f"{type(last).__name__} {last}"
        raise ServerError(f"{self.url}: no answer after {state.attempt_number} attempts; the last was: {what}")


def encode(image: Any) -> str:
    """Base64 of a PNG: of PIL images and of files, which are opened here, not on the server."""
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else open_image(image)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class _NoAnswer(Exception):
    """A status that is worth another attempt; `seconds` where the server says when."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.status_code} {_detail(answer)}")
        stated = answer.headers.get("retry-after", "")
        self.seconds = min(float(stated), LONGEST_WAIT) if stated.isdecimal() else None


def _read(answer: httpx.Response) -> dict[str, Any]:
    """The reply. _NoAnswer for what may be tried again, InputError for what was wrong with the request."""
    if answer.is_success:
        return answer.json()
    if answer.status_code in RETRIED:
        raise _NoAnswer(answer)
    raise InputError(f"the server refused the request ({answer.status_code}): {_detail(answer)}")


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


_growing = wait_exponential(0.5)


def _pause(state: RetryCallState) -> float:
    """What the server asks for, else 0.5, 1, 2, ... seconds, a little shuffled."""
    stated = getattr(_failure(state), "seconds", None)
    return _growing(state) * random.uniform(0.8, 1.2) if stated is None else stated


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _joined(replies: list[dict[str, Any]]) -> ScoreDistribution:
    parts = []
    for reply in replies:
        names = tuple(reply["scores"][0])
        probs = torch.tensor([[item[name]["probs"] for name in names] for item in reply["scores"]])
        parts.append(ScoreDistribution(probs, torch.tensor(reply["scale"]["bins"]), names))
    return ScoreDistribution.cat(parts)
