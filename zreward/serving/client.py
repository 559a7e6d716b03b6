"""A client of `zreward serve`, blocking or not; it retries what is worth retrying.

client = RewardClient("http://127.0.0.1:8000")
scores = client.score(["a.png"], ["a red circle"])
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import httpx
import numpy as np
import torch
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
)

from zreward.common.errors import InputError, check_counts
from zreward.common.http import (
    BROKEN,
    CONNECT,
    MOST_SECONDS,
    check_token,
    environment_errors,
    failure,
    is_here,
    parse_address,
    pause,
    proxy_for,
    stated_wait,
)
from zreward.common.texts import check_prompt
from zreward.data.images import open_image
from zreward.distribution import ScoreDistribution
from zreward.models.pixels import as_pictures, to_image, to_pixels

RETRIED = (408, 429, 502, 503, 504)
_LONGEST_DETAIL = 1000  # letters of a server's message


class ServerError(InputError):
    """The server cannot be reached, failed, or did not answer after all retries."""


class RewardClient:
    """Scores images on a server of `zreward serve`.

    Threads may share a client. It keeps its connections: `close` it, or use it in a `with` block. Broken connections and
    the status codes 408, 429, 502, 503 and 504 are retried after the seconds that the server names (600 at most), else
    after 0.5, 1, 2, ... seconds with jitter; a refused connection is a ServerError at once. A request that is too large
    for the server is sent again in two halves. Addresses of this machine bypass proxies.

    Args:
        url: such as "https://host:8000"; without a scheme http:// is meant.
        token: the bearer token, if the server requires one.
        chunk: the most images in a request.
        retries: how often a request is retried.
        timeout: seconds to wait for an answer.

    Raises:
        InputError: an invalid address, token or number.
    """

    def __init__(
        self, url: str, token: str | None = None, chunk: int = 16, retries: int = 5, timeout: float = 120.0
    ) -> None:
        check_counts(chunk=chunk)
        if retries < 0 or not 0 < timeout <= MOST_SECONDS:
            raise InputError(
                f"retries is {retries}, timeout {timeout}; expected 0 or more, and seconds above 0, at most {MOST_SECONDS:,.0f}"
            )
        address = parse_address(url)
        self.url, self.chunk = str(address).rstrip("/"), chunk
        self._proxy = None if is_here(address.host) else proxy_for(address)
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {check_token(token)}"} if token else {},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT)),
            "trust_env": not is_here(address.host),  # HTTP_PROXY and the like
        }
        with environment_errors():
            self._options["verify"] = httpx.create_ssl_context()  # made once: it takes longer than a request
            self._http = httpx.Client(**self._options)
        self._policy: dict[str, Any] = {
            "retry": retry_if_exception_type((_NoAnswer, *BROKEN)),
            "stop": stop_after_attempt(retries + 1),
            "wait": pause,
            "retry_error_callback": self._give_up,
        }

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> dict[str, Any]:
        """Model, version, scale, dimensions and the length of the queue."""
        return self._ask(lambda: self._http.get("/health"))

    def score(
        self, images: Any, prompts: Sequence[str] | str, dimensions: Sequence[str] | None = None
    ) -> ScoreDistribution:
        """Score N images, as `RewardModel.score` does.

        Args:
            images: a list of paths, bytes, PIL images, arrays or tensors; or a batch of arrays; or one image.
            prompts: one text per image, or one for all.
            dimensions: names; default all of the model's rubric.

        Returns:
            Distributions with probs (N, D, S).

        Raises:
            InputError: the request is wrong, or the server refuses it.
            ServerError: the server cannot be reached or fails.
        """
        return _joined([reply for body in self._bodies(images, prompts, dimensions) for reply in self._post(body)])

    async def ascore(
        self, images: Any, prompts: Sequence[str] | str, dimensions: Sequence[str] | None = None
    ) -> ScoreDistribution:
        """`score` without blocking.

        Args:
            images: as in `score`.
            prompts: as in `score`.
            dimensions: as in `score`.
        """
        async with httpx.AsyncClient(**self._options) as http:
            bodies = self._bodies(images, prompts, dimensions)
            return _joined([reply for body in bodies for reply in await self._apost(http, body)])

    def _bodies(self, images, prompts, dimensions) -> list[dict[str, Any]]:
        images = as_pictures(images)
        texts = [prompts] * len(images) if isinstance(prompts, str) else list(prompts)
        if not images or len(texts) != len(images):
            raise InputError(
                f"{len(images)} images and {len(texts)} prompts; give one prompt per image, or one for all"
            )
        for n, text in enumerate(texts):
            check_prompt(text, f"prompt {n}")
        items = [{"prompt": text, "image": encode(image)} for image, text in zip(images, texts, strict=True)]
        names = list(dimensions) if dimensions is not None else None
        return [
            {"items": items[start : start + self.chunk], "dimensions": names}
            for start in range(0, len(items), self.chunk)
        ]

    def _post(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            return [self._ask(lambda: self._http.post("/v1/score", json=body))]
        except _TooLarge as error:
            return [reply for half in _halves(body, error) for reply in self._post(half)]

    async def _apost(self, http: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
        async def attempt() -> dict[str, Any]:
            return _read(await http.post("/v1/score", json=body))

        try:
            return [await AsyncRetrying(**self._policy)(attempt)]
        except _TooLarge as error:
            return [reply for half in _halves(body, error) for reply in await self._apost(http, half)]
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _ask(self, send: Callable[[], httpx.Response]) -> dict[str, Any]:
        try:
            return Retrying(**self._policy)(lambda: _read(send()))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.HTTPError) -> ServerError:
        """What is wrong with the connection, and what to do."""
        through = f" through the proxy {self._proxy}" if self._proxy else ""
        what = f"{self.url}{through}: {error or type(error).__name__}"
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
            return ServerError(f"{what}; give the client a longer timeout, or send fewer images at a time (chunk)")
        if self._proxy:
            return ServerError(f"{what}; set NO_PROXY if the server is to be reached without the proxy")
        return ServerError(f"{what}; is the server running, and is this its address? `zreward serve MODEL` prints it")

    def _give_up(self, state: RetryCallState) -> NoReturn:
        last = failure(state)
        what = str(last) if isinstance(last, _NoAnswer) else f"{type(last).__name__} {last}"
        raise ServerError(f"{self.url}: no answer after {state.attempt_number} attempts; the last was: {what}")


def encode(image: Any) -> str:
    """Base64 of what `RewardModel.score` takes: of bytes as they are, else of a PNG of what the model sees of it.

    Files are opened here, not on the server. Float pixels are rounded to 8 bits.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return base64.b64encode(image).decode()
    picture = to_image(to_pixels(image)) if isinstance(image, torch.Tensor | np.ndarray) else open_image(image)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class _NoAnswer(Exception):
    """A status that is worth another attempt; `seconds` where the server says when."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.status_code} {_detail(answer)}")
        self.seconds = stated_wait(answer)


class _TooLarge(Exception):
    """A request of several items that the server finds too large."""


def _read(answer: httpx.Response) -> dict[str, Any]:
    """The reply. _NoAnswer for what may be tried again, InputError for what was wrong with the request."""
    if answer.is_success:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerError(f"{answer.url}: no JSON object in the answer; is it zreward's server?")
        return found
    if answer.status_code in RETRIED:
        raise _NoAnswer(answer)
    if answer.is_server_error:
        raise ServerError(f"the server failed ({answer.status_code}): {_detail(answer)}")
    if answer.status_code == 413 and answer.request.method == "POST":
        raise _TooLarge(_detail(answer))
    raise InputError(f"the server refused the request ({answer.status_code}): {_detail(answer)}")


def _halves(body: dict[str, Any], error: _TooLarge) -> list[dict[str, Any]]:
    """InputError where a single item is too large."""
    items = body["items"]
    if len(items) == 1:
        raise InputError(f"the server refused the request (413): {error}") from None
    middle = len(items) // 2
    return [body | {"items": items[:middle]}, body | {"items": items[middle:]}]


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:_LONGEST_DETAIL]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _joined(replies: list[dict[str, Any]]) -> ScoreDistribution:
    try:
        parts = []
        for reply in replies:
            names = tuple(reply["scores"][0])
            probs = torch.tensor([[item[name]["probs"] for name in names] for item in reply["scores"]])
            parts.append(ScoreDistribution(probs, torch.tensor(reply["scale"]["bins"]), names))
        return ScoreDistribution.cat(parts)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServerError(
            f"the answer holds no scores ({type(error).__name__}: {error}); is it zreward's server?"
        ) from None
