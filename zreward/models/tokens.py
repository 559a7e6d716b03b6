"""Token sequences: checking labels, rendering conversations to ids, padding, and the tokens a trace may not contain."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.texts import check_prompt
from zreward.models.chat_template import render_chat
from zreward.prompting import PromptForms, Texts, messages
from zreward.rubric import Dimension, Rubric

if TYPE_CHECKING:
    from zreward.models.rollout import Trace

_REMEMBERED = 1024  # encoded questions: candidates and steps repeat their prompts


class ConversationEncoder:
    """Turns (prompt, dimension) into token ids with a placeholder per image, for one tokenizer, rubric and set of forms.

    Raises InputError at construction when a label is not exactly one token after the answer prefix, or the tokenizer has
    no chat template.
    """

    def __init__(self, tokenizer, rubric: Rubric, forms: PromptForms, image_token_id: int) -> None:
        self.tokenizer, self.rubric, self.forms, self.image_token_id = tokenizer, rubric, forms, image_token_id
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("the tokenizer has no chat template; use an instruction-tuned image-text-to-text model")
        self.template = tokenizer.get_chat_template()
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        self.control_tokens = sorted(filter(None, added | set(tokenizer.all_special_tokens)), key=len, reverse=True)
        self.prefix_ids = self._ids(forms.answer_prefix)
        self.stop_ids = self._ids(forms.stop_marker)
        self.reasoning_ids = self._ids(forms.reasoning_start)
        self.label_ids = torch.tensor([self._label_id(label) for label in rubric.labels])
        if len(set(self.label_ids.tolist())) < len(rubric.labels):
            raise InputError(
                f"labels {list(rubric.labels)}: two are the same token in this model's tokenizer; choose others"
            )
        self.trace_ban = self._trace_ban()
        self.pad_id: int = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
        self._encode_once = lru_cache(_REMEMBERED)(self._encode)

    def encode(
        self, prompt: str | Texts, dimension: Dimension, reasoning: bool, images: int | None = None
    ) -> list[int]:
        """Ids up to where the model continues: right after the answer prefix (direct), or where the trace starts.

        One placeholder stands for a whole image; there are `images` of them, by default those of `PromptForms.images`.
        """
        texts = Texts.of(prompt)
        check_prompt(texts.prompt)
        count = self.forms.images if images is None else images
        return list(self._encode_once(texts, dimension, reasoning, count))

    def answer_ids(self, trace: Trace) -> list[int]:
        """A trace, its stop marker and the answer prefix: up to where the score is read."""
        return [*trace.ids, *(self.stop_ids if trace.truncated else []), *self.prefix_ids]

    def _encode(self, texts: Texts, dimension: Dimension, reasoning: bool, images: int) -> tuple[int, ...]:
        answer = None if texts.answer is None else self._escape_special_tokens(texts.answer)
        safe = Texts(self._escape_special_tokens(texts.prompt), answer)
        turns = messages(safe, dimension, self.rubric, self.forms, reasoning, images)
        names = dict(self.tokenizer.special_tokens_map)
        options = {"tools": None, "documents": None, "add_generation_prompt": True, "enable_thinking": reasoning}
        text = render_chat(self.template, turns, **names | options)
        start = self.forms.reasoning_start
        if reasoning and not text.rstrip().endswith(start.strip()):
            text += start
        ids = self._ids(text) + ([] if reasoning else self.prefix_ids)
        if ids.count(self.image_token_id) != images:
            raise InputError(
                f"the chat template wrote {ids.count(self.image_token_id)} image placeholders for {images} image(s); "
                "expected one for each"
            )
        return tuple(ids)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _label_id(self, label: str) -> int:
        whole = self._ids(self.forms.answer_prefix + label)
        ids = whole[len(self.prefix_ids) :]
        if whole[: len(self.prefix_ids)] != self.prefix_ids or len(ids) != 1:
            raise InputError(
                f"label {label!r} is {len(ids)} tokens after the answer prefix {self.forms.answer_prefix!r} in this "
                "model's tokenizer; every label must be exactly one token (digits and capital letters usually are)"
            )
        if ids[0] == getattr(self.tokenizer, "unk_token_id", None):
            raise InputError(f"label {label!r} is unknown to this model's tokenizer; choose labels from its vocabulary")
        return ids[0]

    def _escape_special_tokens(self, prompt: str) -> str:
        """A text that spells a control token (say, an image placeholder) must not become one: break its first character off."""
        for token in self.control_tokens:
            if token in prompt:
                prompt = prompt.replace(token, token[0] + " " + token[1:])
        return prompt

    def _trace_ban(self) -> Tensor:
        """Ids that may not be sampled inside a trace: every control and vision token except the stop marker's own."""
        banned = {self.tokenizer.convert_tokens_to_ids(token) for token in self.control_tokens}
        return torch.tensor(sorted(i for i in banned - set(self.stop_ids) if i is not None and i >= 0))


def check_vocabulary(tokenizer, size: int) -> None:
    """InputError for a tokenizer with ids beyond a model's `size` embeddings: on a GPU, one of them would end the process."""
    most = max(tokenizer.get_vocab().values(), default=0)
    if most >= size:
        raise InputError(
            f"the tokenizer has token ids up to {most:,}, the model embeddings for {size:,} tokens: they do not belong "
            "together. Use the model's own tokenizer, or resize the embeddings and train them"
        )


def expand_images(ids: Sequence[int], image_token_id: int, counts: Sequence[int]) -> list[int]:
    """Replace the k-th image placeholder by `counts[k]` of them: one per merged patch."""
    left = iter(counts)
    return [token for i in ids for token in ([i] * next(left) if i == image_token_id else [i])]


def pad(sequences: Sequence[Sequence[int]], pad_id: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Ragged ids -> (N, T) ids and (N, T) mask of ones where real. Right padding unless `left`."""
    width = max(len(ids) for ids in sequences)
    ids_NT = torch.full((len(sequences), width), pad_id)
    mask_NT = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, ids in enumerate(sequences):
        place = slice(width - len(ids), width) if left else slice(0, len(ids))
        ids_NT[row, place] = torch.tensor(ids)
        mask_NT[row, place] = 1
    return ids_NT, mask_NT


def to_left(ids_NT: Tensor, mask_NT: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded rows as left-padded ones, which is what generation goes on from."""
    return pad([ids[real].tolist() for ids, real in zip(ids_NT, mask_NT.bool(), strict=True)], pad_id, left=True)
