"""Requests to an OpenAI-compatible server: bounded answers, time limits, retries, a count of tokens."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from zreward.common.errors import InputError, plain, shorten
from zreward.common.http import (
    BROKEN,
    CONNECT,
    check_token,
    environment_errors,
    failure,
    is_here,
    parse_address,
    pause,
    proxy_for,
)
from zreward.common.http import stated_wait as wait_of
from zreward.endpoint.answers import AnswerError, parse_json
from zreward.endpoint.settings import EndpointSettings

RETRIED = (408, 409, 425, 429)  # and all from 500 on: servers of language models recover
_LARGEST = 16 << 20  # bytes of an answer
_UNSUPPORTED = (404, 405, 501)


class EndpointError(InputError):
    """The server cannot be reached, failed, or did not answer after all retries."""


class RefusedError(InputError):
    """The server refuses a request as it is."""


@dataclass
class Usage:
    """What was asked of a server so far."""

    requests: int = 0  # that were answered
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class EndpointClient:
    """Threads may share a client. The key goes into the requests' header only, never into a message or a file.

    Broken connections, time-outs and the statuses 408, 409, 425, 429 and 5xx are retried after the seconds that the server
    names (600 at most), else after 0.5, 1, 2, ... seconds with jitter. Redirects are not followed.

    Raises InputError for an invalid address or key.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        address = parse_address(settings.url)
        if address.userinfo or address.query or address.fragment:
            raise InputError(
                f"endpoint: expected an address without user, query and #, such as http://127.0.0.1:8000/v1; a key belongs "
                f"into the environment variable {settings.api_key_variable}"
            )
        self.url, self.settings, self.usage = str(address).rstrip("/"), settings, Usage()
        self._proxy = None if is_here(address.host) else proxy_for(address)
        self._key = check_token(os.environ.get(settings.api_key_variable, ""))
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        with environment_errors():
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(settings.timeout, connect=min(settings.timeout, CONNECT)),
                limits=httpx.Limits(max_connections=settings.concurrency),
                trust_env=not is_here(address.host),
            )
        self._policy: dict[str, Any] = {
            "retry": retry_if_exception_type((_NoAnswer, *BROKEN, httpx.TimeoutException)),
            "stop": stop_after_attempt(settings.retries + 1),
            "wait": pause,
            "after": lambda state: self.usage.add(retries=1),
            "retry_error_callback": self._give_up,
        }

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> dict[str, Any] | None:
        """The answer of GET /models; None from a server that has no such list. One attempt."""
        try:
            return self._exchange("GET", "/models", None)
        except _NoAnswer as error:
            raise EndpointError(f"{self.url}: {error}") from None
        except _UnsupportedError:
            return None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of POST /chat/completions to a body. EndpointError, RefusedError or AnswerError with the reason."""
        try:
            return Retrying(**self._policy)(self._exchange, "POST", "/chat/completions", body)
        except _UnsupportedError as error:
            raise EndpointError(
                f"{self.url}/chat/completions: {error}; is the address right? It ends with /v1"
            ) from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        end = time.monotonic() + self.settings.timeout
        with self._http.stream(method, path, json=body) as answer:
            content = bytearray()
            for part in answer.iter_raw():
                content += part
                if len(content) > _LARGEST:
                    raise AnswerError(
                        f"{self.url}: an answer of more than {_LARGEST >> 20} MiB; is it a language model's server?"
                    )
                if time.monotonic() > end:
                    raise httpx.ReadTimeout(f"no whole answer in {self.settings.timeout:g} s")
        return self._checked(answer, bytes(content))

    def _checked(self, answer: httpx.Response, content: bytes) -> dict[str, Any]:
        status = answer.status_code
        if answer.is_success:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise AnswerError(f"{self.url}: a compressed answer, which was not asked for")
            try:
                return parse_json(content, self._key)
            except AnswerError as error:
                raise AnswerError(
                    f"{self.url}: the answer is {error}; is this the address of an OpenAI-compatible API?"
                ) from None
        what = f"{status} {_detail(content, self._key)}"
        if status in RETRIED or (status >= 500 and status not in _UNSUPPORTED):
            raise _NoAnswer(what, wait_of(answer))
        if answer.is_redirect:
            place = plain(_without(self._key, answer.headers.get("location", "?")))
            raise EndpointError(f"{self.url}: redirects to {shorten(place)}; name that address")
        if status in (401, 403):
            raise EndpointError(
                f"{self.url}: {what}; put the key into the environment variable {self.settings.api_key_variable}"
            )
        if status in _UNSUPPORTED and "model" not in what.lower():
            raise _UnsupportedError(what)
        raise RefusedError(f"{self.url}: the server refused the request: {what}")

    def _unreachable(self, error: httpx.HTTPError) -> EndpointError:
        through = f" through the proxy {self._proxy}" if self._proxy else ""
        what = f"{self.url}{through}: {str(error) or type(error).__name__}"
        return EndpointError(f"{what}; is the server running, and is this its address?")

    def _give_up(self, state: RetryCallState) -> NoReturn:
        last = failure(state)
        told = str(last) if isinstance(last, _NoAnswer) else f"{type(last).__name__} {last}".strip()
        if isinstance(last, httpx.TimeoutException):
            told += f"; give it more than {self.settings.timeout:g} s (timeout), or ask less at a time (concurrency)"
        raise EndpointError(f"{self.url}: no answer after {state.attempt_number} attempts; the last was: {told}")


class _NoAnswer(Exception):
    """A status that is worth another attempt; `seconds` where the server says when."""

    def __init__(self, what: str, seconds: float | None) -> None:
        super().__init__(what)
        self.seconds = seconds


class _UnsupportedError(Exception):
    """The server does not know such a request."""


def _detail(content: bytes, secret: str) -> str:
    """A server's own message, shortened, without control characters, and without the key, which some servers repeat."""
    try:
        found: Any = parse_json(content)
    except AnswerError:
        found = content.decode(errors="replace")
    for key in ("error", "detail", "message"):
        if isinstance(found, dict):
            found = found.get(key, found)
    return shorten(plain(" ".join(_without(secret, str(found))[:10_000].split())), 300)


def _without(secret: str, text: str) -> str:
    """Of the whole text: a key that is cut in two is not found."""
    return text.replace(secret, "***") if secret else text
