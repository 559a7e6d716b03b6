"""A client of `zreward serve`, blocking or not; it retries what is worth retrying.

client = RewardClient("http://127.0.0.1:8000")
scores = client.score(["a.png"], ["a red circle"])
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
import time
from collections.abc import Sequence
from typing import Any, cast

import httpx
import torch
from PIL import Image

from zreward.data.images import open_image
from zreward.distribution import ScoreDistribution
from zreward.errors import InputError

RETRIED = (408, 429, 500, 502, 503, 504)


class ServerError(RuntimeError):
    """The server did not answer after all retries, or answered what no retry helps against."""


class RewardClient:
    """Scores images (paths, bytes or PIL images) on a server. Requests hold `chunk` images at most.

    One client serves many threads and keeps its connections; `close` it, or use it in a `with` block.
    Failures of the connection and the answers 408, 429 and 5xx are tried again `retries` times: after the seconds that
    the server names, else after 0.5, 1, 2, ... seconds, a little shuffled.
    """

    def __init__(
        self, url: str, token: str | None = None, chunk: int = 16, retries: int = 5, timeout: float = 120.0
    ) -> None:
        self.url, self.chunk, self.retries = url.rstrip("/"), chunk, retries
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": headers,
            "timeout": timeout,
            "verify": httpx.create_ssl_context(),  # made once: it takes longer than a request
        }
        self._http = httpx.Client(**self._options)

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
        last: httpx.Response | httpx.TransportError
        for attempt in range(self.retries + 1):
            try:
                last = self._http.post("/v1/score", json=body)
            except httpx.TransportError as error:
                last = error
            wait = _wait(last, attempt)
            if wait is None:
                return cast(httpx.Response, last).json()
            if attempt < self.retries:
                time.sleep(wait)
        raise self._gave_up(last)

    async def _apost(self, http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        last: httpx.Response | httpx.TransportError
        for attempt in range(self.retries + 1):
            try:
                last = await http.post("/v1/score", json=body)
            except httpx.TransportError as error:
                last = error
            wait = _wait(last, attempt)
            if wait is None:
                return cast(httpx.Response, last).json()
            if attempt < self.retries:
                await asyncio.sleep(wait)
        raise self._gave_up(last)

    def _gave_up(self, last: Any) -> ServerError:
        what = (
            f"{last.status_code} {_detail(last)}"
            if isinstance(last, httpx.Response)
            else f"{type(last).__name__} {last}"
        )
        return ServerError(f"{self.url}: no answer after {self.retries + 1} attempts; the last was: {what}")


def encode(image: Any) -> str:
    """Base64 of a PNG: of PIL images and of files, which are opened here, not on the server."""
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else open_image(image)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _wait(answer: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
    """Seconds until the next attempt; None for an answer. InputError for what was wrong with the request."""
    if isinstance(answer, httpx.TransportError):
        return _pause(attempt)
    if answer.is_success:
        return None
    if answer.status_code not in RETRIED:
        raise InputError(f"the server refused the request ({answer.status_code}): {_detail(answer)}")
    stated = answer.headers.get("retry-after", "")
    return float(stated) if stated.isdigit() else _pause(attempt)


def _pause(attempt: int) -> float:
    return 0.5 * 2**attempt * random.uniform(0.8, 1.2)


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
