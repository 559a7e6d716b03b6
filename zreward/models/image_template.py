"""Image placeholders for tokenizers whose chat template knows text only."""

from __future__ import annotations

from typing import Any

from zreward.common.errors import InputError
from zreward.models.chat_template import render_chat

TOKEN = "<image>"
_FLAT = """\
{%- set flat = namespace(turns=[]) -%}
{%- for message in messages -%}
{%- set said = namespace(text='') -%}
{%- if message['content'] is string -%}
{%- set said.text = message['content'] -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- set said.text = said.text + ('TOKEN' if part['type'] == 'image' else part['text']) -%}
{%- endfor -%}
{%- endif -%}
{%- set flat.turns = flat.turns + [{'role': message['role'], 'content': said.text}] -%}
{%- endfor -%}
{%- set messages = flat.turns -%}
"""
"""Before a template that expects texts: lists of texts and images become texts with a placeholder."""


def give_image_token(tokenizer: Any) -> int:
    """The id of the image placeholder; a tokenizer whose template writes none gets a token, and a template that writes it.

    InputError for a tokenizer without a chat template, and for a template that works with neither lists nor texts.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise InputError(
            "the tokenizer has no chat template; use an instruction-tuned language model, or write one (tokenizer.chat_template)"
        )
    template = tokenizer.get_chat_template()
    known = placeholder(tokenizer, template)
    if known is not None:
        return known
    tokenizer.add_special_tokens({"additional_special_tokens": [TOKEN]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = _FLAT.replace("TOKEN", TOKEN) + template
    made = placeholder(tokenizer, tokenizer.chat_template)
    if made is None:
        raise InputError("the chat template leaves out what a user says; expected one that writes every turn")
    return made


def show_images(tokenizer: Any, image_id: int) -> None:
    """Let a text-only template of an image-text-to-text model write its image token; any other template stays as it is."""
    template = tokenizer.get_chat_template() if getattr(tokenizer, "chat_template", None) else None
    if template is None or _writes(tokenizer, template, image_id):
        return
    made = _FLAT.replace("TOKEN", str(tokenizer.convert_ids_to_tokens(image_id))) + template
    if _writes(tokenizer, made, image_id):
        tokenizer.chat_template = made


def _writes(tokenizer: Any, template: str, image_id: int) -> bool:
    try:
        return _ids(tokenizer, template, [{"type": "image"}, {"type": "text", "text": "x"}]).count(image_id) == 1
    except InputError:
        return False


def placeholder(tokenizer: Any, template: str) -> int | None:
    """The token that a template writes for an image and for nothing else; None where it takes texts only."""
    image, text = {"type": "image"}, {"type": "text", "text": "x"}
    try:
        with_image, without = (_ids(tokenizer, template, content) for content in ([image, text], [text]))
    except InputError:
        return None
    more = [token for token in set(with_image) if with_image.count(token) == without.count(token) + 1]
    special = set(tokenizer.added_tokens_decoder) & set(more) - set(without)
    return next(iter(special)) if len(special) == 1 else None


def _ids(tokenizer: Any, template: str, content: list[dict[str, str]]) -> list[int]:
    turns = [{"role": "user", "content": content}]
    names = dict(tokenizer.special_tokens_map)
    options = {"tools": None, "documents": None, "add_generation_prompt": True, "enable_thinking": False}
    return tokenizer(render_chat(template, turns, **names | options), add_special_tokens=False)["input_ids"]
