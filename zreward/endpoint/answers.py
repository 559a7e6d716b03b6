"""What a chat completion says, checked: nothing of an answer is believed before it has its type and its range."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from zreward.common.errors import InputError, shown

_MOST_POSITIONS = 1 << 20
_LEAST = 1e9  # of a log-probability, below 0


class AnswerError(InputError):
    """An answer that is not what the protocol promises."""


@dataclass(frozen=True)
class Position:
    """A token of the answer, and the likeliest tokens in its place with their log-probabilities (at most 0)."""

    token: str
    listed: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str
    reasoning: str  # where the server takes it out of the text; else empty
    is_cut: bool  # the token budget ran out
    positions: tuple[Position, ...]  # empty where no log-probabilities were asked for
    prompt_tokens: int | None  # None where the server does not count
    completion_tokens: int | None


def parse_json(content: bytes, secret: str = "") -> dict[str, Any]:
    """A JSON object; AnswerError for anything else, NaN and Infinity included, without the secret."""
    try:
        found = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        told = content.replace(secret.encode(), b"***") if secret else content
        raise AnswerError(f"not JSON ({str(error)[:100]}): {shown(told[:80])}") from None
    if not isinstance(found, dict):
        raise AnswerError(f"a JSON {type(found).__name__}, expected an object")
    return found


def read_completion(answer: dict[str, Any], with_logprobs: bool) -> Completion:
    """The first choice of a chat completion. AnswerError for missing fields, other types, NaN, no log-probabilities."""
    choice = _item(_of(answer, "choices", list), "choices")
    message = _of(choice, "message", dict)
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    text = message.get("content") or ""
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise AnswerError(
            f"the message holds {shown(text if not isinstance(text, str) else reasoning)}, expected a text"
        )
    if refusal := message.get("refusal"):
        raise AnswerError(f"the model refuses to answer: {shown(refusal)}")
    usage = answer.get("usage") or {}
    if not isinstance(usage, dict):
        raise AnswerError(f"usage is {shown(usage)}, expected an object")
    return Completion(
        _whole(text),
        _whole(reasoning),
        choice.get("finish_reason") == "length",
        _positions(choice) if with_logprobs else (),
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def read_models(answer: dict[str, Any]) -> list[str]:
    """The names of the models that a server offers. AnswerError for one that no terminal should show."""
    names = [_of(each, "id", str) for each in _of(answer, "data", list) if isinstance(each, dict)]
    wrong = next((name for name in names if not name.isprintable()), None)
    if wrong is not None:
        raise AnswerError(f"a model is called {shown(wrong)}, expected a name without control characters")
    return names


def _whole(text: str) -> str:
    """Half a character, where the token budget cut one in two, becomes the sign for it (U+FFFD): no file could hold it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _positions(choice: dict[str, Any]) -> tuple[Position, ...]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not content:
        raise AnswerError(
            "no log-probabilities (choices[0].logprobs.content); zreward needs a server and a model that return logprobs "
            "and top_logprobs"
        )
    if not isinstance(content, list) or len(content) > _MOST_POSITIONS:
        raise AnswerError(f"logprobs.content is {shown(content)}, expected a list of tokens")
    return tuple(_position(each) for each in content)


def _position(entry: Any) -> Position:
    listed = _of(entry, "top_logprobs", list)
    if not listed:
        raise AnswerError("top_logprobs is empty; zreward needs a server that lists the likeliest tokens")
    found = tuple((_of(each, "token", str), _logprob(each)) for each in listed)
    return Position(_of(entry, "token", str), found)


def _logprob(entry: dict[str, Any]) -> float:
    value: Any = entry.get("logprob")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -_LEAST <= value <= 1e-3:
        raise AnswerError(f"logprob is {shown(value)}, expected a number of at most 0")
    return min(float(value), 0.0)


def _of(value: Any, key: str, kind: type) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise AnswerError(f"{key} is {shown(found)}, expected a {'list' if kind is list else kind.__name__}")
    return found


def _item(values: list, key: str) -> dict[str, Any]:
    if not values or not isinstance(values[0], dict):
        raise AnswerError(f"{key} is {shown(values)}, expected a list with an answer")
    return values[0]


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise AnswerError(f"usage.{key} is {shown(value)}, expected a number of tokens")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
