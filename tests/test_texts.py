"""Prompts: one rule for what can be scored, on every way in."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.common.texts import check_prompt, is_blank
from zreward.data import Record

BLANK = ["", " ", "\t\n\r", "\x00\x07", "\u200b\u200d\ufeff", "\u2028", "\u3000\xa0", "\u3164", "\ufe0f", "\u2800"]
SEEN = ["a", "\u200bx", "好", "?", "🦊", "\U0010ffff", "é", "   .   "]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.parametrize("prompt", BLANK, ids=ascii)
def test_what_shows_nothing_is_blank_everywhere(prompt, model):
    picture = Image.new("RGB", (32, 32))
    assert is_blank(prompt)
    with pytest.raises(InputError, match="prompt is empty or blank"):
        check_prompt(prompt)
    with pytest.raises(InputError, match="empty or blank"):
        Record(prompt, "a.png")
    with pytest.raises(InputError, match="empty or blank"):
        model.score([picture], prompt)


@pytest.mark.parametrize("prompt", SEEN, ids=ascii)
def test_what_shows_something_is_a_prompt(prompt):
    assert check_prompt(prompt) == prompt
    assert Record(prompt, "a.png").prompt == prompt


@pytest.mark.parametrize("prompt", ["caf\udce9", "\ud83d", "x" * 10**6 + "\udfff"], ids=["latin-1", "half", "long"])
def test_what_is_no_unicode_is_refused_in_a_short_message(prompt, model):
    for ask in (
        check_prompt,
        lambda text: model.score([Image.new("RGB", (32, 32))], text),
        lambda text: Record(text, "a"),
    ):
        with pytest.raises(
            InputError, match="is no Unicode text .*half a surrogate pair.; write it in UTF-8"
        ) as caught:
            ask(prompt)
        assert len(str(caught.value)) < 300
        str(caught.value).encode()


@pytest.mark.parametrize("prompt", [None, 5, b"text", ["a"]])
def test_what_is_no_text_is_named(prompt):
    with pytest.raises(InputError, match="prompt is a .*expected a text"):
        check_prompt(prompt)


def test_a_prompt_that_the_model_was_not_made_for_is_refused_before_it_is_read(model):
    large = Image.new("RGB", (520, 520))  # more tokens than the context, but few positions
    assert model.context == 4096
    with pytest.raises(
        InputError, match=r"prompt 'red red.{,80}': .* takes [\d,]+ positions.* made for 4,096; shorten"
    ):
        model.score([Image.new("RGB", (32, 32))], "red " * 5_000)
    with pytest.raises(InputError, match="made for 4,096"):
        model.judge([Image.new("RGB", (32, 32))], "red " * 5_000)
    assert len(model.score([large], "red", ["realism"])) == 1
    with pytest.raises(InputError, match="has 1,000,001 letters .*expected at most 1,000,000"):
        check_prompt("x" * 1_000_001)
