"""A real HTTP server that answers in the OpenAI form, as vLLM does, by running a tiny model with plain transformers calls.

It knows nothing of zreward's requests: messages go through the tokenizer's own chat template, every sequence is read alone,
pictures come as data URIs. `mood` holds the faults that it answers with first.
"""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from jinja2 import Environment, meta
from PIL import Image

from zreward.common.listening import listen, url
from zreward.models.reward_model import RewardModel
from zreward.models.tokens import expand_images
from zreward.serving.listener import uvicorn_server

NAME = "judge"


@dataclass
class Served:
    """What a server is like, and what it was asked."""

    model: RewardModel
    most: int = 20  # tokens that it lists
    favour: float = 0.0  # added to the labels' logits: an instructed model; the labels' shares stay as they are
    continues: bool = True  # it knows continue_final_message; else the field is ignored
    refuses: tuple[str, ...] = ()  # fields that it answers with 400, as strict servers do
    counts: bool = True  # it says how many tokens were used
    mood: list[Any] = field(default_factory=list)  # answers that come before it behaves
    asked: list[dict] = field(default_factory=list)  # bodies
    prompts: list[str] = field(default_factory=list)  # the texts that the template made
    headers: list[dict] = field(default_factory=list)
    most_at_once: int = 0
    pause: float = 0.0  # seconds for an answer
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            time.sleep(self.pause)
            yield
        finally:
            with self._lock:
                self._now -= 1


def answer(served: Served, body: dict) -> dict:
    """The JSON of a chat completion."""
    tokenizer = served.model.tokenizer
    text, pictures = _prompt(served, body)
    served.prompts.append(text)
    generator = torch.Generator().manual_seed(int(body.get("seed") or 0))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt, inputs = _expanded(served.model, ids, pictures)
    written: list[int] = []
    content: list[dict] = []
    finish = "length"
    while len(written) < body["max_tokens"]:
        logprobs = _logprobs(served, [*prompt, *written], inputs)
        token = _sampled(served.model, logprobs, body.get("temperature", 1.0), generator)
        written.append(token)
        content.append(
            _listed(tokenizer, logprobs, token, min(served.most, len(logprobs), body.get("top_logprobs") or 0))
        )
        said = tokenizer.decode(written)
        if any(stop in said for stop in body.get("stop") or []):
            finish = "stop"
            break
    said = tokenizer.decode(written)
    for stop in body.get("stop") or []:
        said = said.partition(stop)[0]
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": said}}
    choice["logprobs"] = {"content": content} if body.get("logprobs") else None
    usage = {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(written),
        "total_tokens": len(prompt) + len(written),
    }
    return {"object": "chat.completion", "choices": [choice]} | ({"usage": usage} if served.counts else {})


def _prompt(served: Served, body: dict) -> tuple[str, list[Image.Image]]:
    pictures, turns = [], []
    for turn in body["messages"]:
        content = turn["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        shown = []
        for part in parts:
            if part["type"] == "image_url":
                head, _, data = part["image_url"]["url"].partition(",")
                assert head == "data:image/png;base64"
                pictures.append(Image.open(io.BytesIO(base64.b64decode(data))))
                shown.append({"type": "image"})
            else:
                shown.append(dict(part))
        turns.append({"role": turn["role"], "content": shown})
    template = served.model.tokenizer.chat_template
    known = meta.find_undeclared_variables(Environment().parse(template))  # vLLM drops other variables too
    values = {key: value for key, value in body.get("chat_template_kwargs", {}).items() if key in known}
    continues = served.continues and body.get("continue_final_message", False)
    begins = body.get("add_generation_prompt", True) if served.continues else True
    text = served.model.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=begins, continue_final_message=continues, **values
    )
    return text, pictures


def _expanded(model: RewardModel, ids: list[int], pictures: list[Image.Image]) -> tuple[list[int], dict]:
    shown = [model.layout.patchify(model.open(picture)) for picture in pictures]
    prompt = expand_images(ids, model.encoder.image_token_id, [model.layout.tokens(grid) for _, grid in shown])
    inputs = {"pixel_values": torch.cat([patches for patches, _ in shown])}
    if hasattr(model.layout, "merge"):
        inputs["image_grid_thw"] = torch.tensor([grid for _, grid in shown])
    return prompt, inputs


@torch.no_grad()
def _logprobs(served: Served, ids: list[int], inputs: dict) -> torch.Tensor:
    row, model = torch.tensor([ids]), served.model
    kinds = {"mm_token_type_ids": (row == model.encoder.image_token_id).int()} if "image_grid_thw" in inputs else {}
    logits = model.backbone.base(input_ids=row, use_cache=False, **inputs, **kinds).logits[0, -1]
    logits[model.encoder.label_ids] += served.favour
    return logits.double().log_softmax(-1)


def _sampled(model: RewardModel, logprobs: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    allowed = logprobs.index_fill(0, model.encoder.trace_ban, float("-inf"))
    if temperature == 0:
        return int(allowed.argmax())
    return int(torch.multinomial((allowed / temperature).softmax(-1), 1, generator=generator))


def _listed(tokenizer: Any, logprobs: torch.Tensor, token: int, most: int) -> dict:
    def one(i: int) -> dict:
        return {"token": tokenizer.decode([i]), "logprob": float(logprobs[i]), "bytes": None}

    top = logprobs.topk(most).indices.tolist() if most else []
    chosen = top if token in top or not most else [*top, token]  # vLLM lists the sampled token too
    return one(token) | {"top_logprobs": [one(i) for i in chosen]}


def create(served: Served) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [{"id": NAME, "object": "model"}]}

    @app.post("/v1/chat/completions")
    def completions(body: dict, request: Request) -> Response:
        with served.counted():
            with served._lock:
                served.asked.append(body)
                served.headers.append(dict(request.headers))
                mood = served.mood.pop(0) if served.mood else None
            if mood is not None:
                return mood if isinstance(mood, Response) else mood(body)
            if body["model"] != NAME:
                return JSONResponse({"error": {"message": f"The model `{body['model']}` does not exist."}}, 404)
            unknown = [name for name in served.refuses if name in body]
            if unknown:
                return JSONResponse(
                    {"error": {"message": f"Unrecognized request argument supplied: {unknown[0]}"}}, 400
                )
            try:
                with served._lock:
                    return JSONResponse(answer(served, body))
            except ValueError as error:  # of the chat template
                return JSONResponse({"error": {"message": str(error)}}, 400)

    return app


@contextmanager
def serving(model: RewardModel, **how: Any) -> Iterator[tuple[str, Served]]:
    """The address (with /v1) of a server in a thread, and what it is like."""
    served = Served(model, **how)
    server, sockets = uvicorn_server(create(served)), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"{url('127.0.0.1', sockets)}/v1", served
    finally:
        server.should_exit = True
        thread.join()
