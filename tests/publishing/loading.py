"""What somebody without zreward computes from an exported folder."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor


class _WithoutVideos(Qwen3VLProcessor):
    """transformers' Qwen processor loads its video part with torchvision only, which no CPU build of torch here has."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self.image_processor, self.tokenizer, self.chat_template = image_processor, tokenizer, tokenizer.chat_template

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


def load_processor(folder: Path) -> ProcessorMixin:
    """AutoProcessor where its parts can be loaded, else the same class without its video part."""
    if find_spec("torchvision") or not (folder / "video_preprocessor_config.json").exists():
        return AutoProcessor.from_pretrained(folder)
    return _WithoutVideos(Qwen2VLImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def turns_of(body: dict[str, Any], picture: Image.Image, prompt: str) -> list[dict[str, Any]]:
    """The messages of a request as transformers takes them."""
    return [
        {"role": turn["role"], "content": [_part(part, picture, prompt) for part in turn["content"]]}
        for turn in body["messages"]
    ]


def _part(part: dict[str, Any], picture: Image.Image, prompt: str) -> dict[str, Any]:
    if part["type"] == "image_url":
        return {"type": "image", "image": picture}
    return {"type": "text", "text": part["text"].replace("{prompt}", prompt)}


@lru_cache(1)
def _loaded(folder: Path) -> tuple[ProcessorMixin, Any]:
    return load_processor(folder), AutoModelForImageTextToText.from_pretrained(folder)


@torch.no_grad()
def plain_scores(folder: Path, picture: Image.Image, prompt: str, by_chat: bool) -> Tensor:
    """(D, S): the softmax over the labels; the answer's prefix as the chat's text, or appended as tokens."""
    processor, model = _loaded(folder)
    plan = json.loads((folder / "request.json").read_text())
    labels = [label["token_id"] for label in plan["labels"]]
    found = []
    for name, body in plan["chat"]["bodies"].items():
        values = body["chat_template_kwargs"] if by_chat else plan["tokens"]["tokenize"][name]["chat_template_kwargs"]
        inputs = processor.apply_chat_template(
            turns_of(body, picture, prompt),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **values,
        )
        if not by_chat:
            answer = torch.tensor([plan["answer_token_ids"]])
            more = {"input_ids": answer, "attention_mask": answer * 0 + 1, "mm_token_type_ids": answer * 0}
            for key in more.keys() & inputs.keys():
                inputs[key] = torch.cat([inputs[key], more[key]], 1)
        found.append(model(**inputs).logits[0, -1, labels].float().softmax(-1))
    return torch.stack(found)
