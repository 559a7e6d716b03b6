"""What `zreward.sampling` does around vLLM, tried without it: requests to a server and what comes back, and a teacher's answers.

vLLM itself is tried in tests/sampling, wrong answers of a server in tests/training/test_engine_server.py.
"""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

import httpx
import pytest
import torch

import zreward.sampling.sampler
import zreward.sampling.teacher
from tests.tiny import noise_pictures, sharpen, tiny_model
from tests.training.stand_in_engine import StandInEngine
from zreward.common.errors import InputError
from zreward.models.pixels import png_uri, to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Question, TokenRules
from zreward.sampling.sampler import EngineSampler
from zreward.sampling.server import ServerVllm
from zreward.sampling.teacher import VllmTeacher

RULES = TokenRules(stop_id=9, banned=(3, 4), labels=(30, 10, 20), budget=4)
QUESTIONS = [Question([5, number], [torch.full((3, 2, 2), number / 10)]) for number in range(3)]


def reply(value: Any) -> httpx.Response:
    """JSON that is not read yet."""
    stream = httpx.ByteStream(json.dumps(value).encode())
    return httpx.Response(200, stream=stream, headers={"content-type": "application/json"})


class Server:
    """vLLM's answers to what it is asked: the label's log-probability is its token id's, negative."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        body = json.loads(request.content) if request.content else {}
        if path == "/v1/models":
            return reply({"data": [{"id": "base"}]})
        self.asked.append((path, body))
        if path != "/inference/v1/generate":
            return reply({})
        own = body["token_ids"][-1]
        if body["sampling_params"]["max_tokens"] == 1:
            listed = [{"token_id": token, "logprob": -token - own} for token in (10, 20, 30)]
            content = [listed[1] | {"top_logprobs": listed}]
            return reply({"choices": [{"token_ids": [20], "logprobs": {"content": content}}]})
        ids = [7, own, 9] if own else [7, 8]
        content = [{"logprob": -0.5 - token} for token in ids]
        return reply({"choices": [{"token_ids": ids, "logprobs": {"content": content}}]})


@pytest.fixture
def server(monkeypatch) -> Server:
    made = Server()
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(made)))
    return made


def connect(leads: bool = True, on_cpu: bool = False) -> ServerVllm:
    return ServerVllm(RULES, VllmOptions(server="127.0.0.1:8000", max_sequences=2), on_cpu, leads)


def test_what_a_server_is_asked_for_and_what_is_read(server):
    engine = connect()
    scores = engine.score(QUESTIONS)
    assert scores.tolist() == [[-30 - n, -10 - n, -20 - n] for n in range(3)]  # in the rubric's order
    sampled = engine.sample(QUESTIONS, 0.7, [4, 5, 6])
    assert [each.trace.ids for each in sampled] == [(7, 8), (7, 1, 9), (7, 2, 9)]
    assert [each.trace.truncated for each in sampled] == [True, False, False]
    assert [each.log_probs for each in sampled] == [[-7.5, -8.5], [-7.5, -1.5, -9.5], [-7.5, -2.5, -9.5]]
    score, trace = (
        next(body for _, body in calls if body["token_ids"] == [5, 1]) for calls in (server.asked[:3], server.asked[3:])
    )
    for body in (score, trace):
        assert body["model"] == "base" and len(body["content_parts"]) == 1
        assert body["content_parts"][0]["url"].startswith("data:image/png;base64,")
        assert body["sampling_params"]["output_kind"] == 2
    labels = {"logprob_token_ids": [30, 10, 20], "allowed_token_ids": [30, 10, 20], "logprobs": 3}
    assert labels.items() <= score["sampling_params"].items()
    own = {"temperature": 0.7, "seed": 5, "stop_token_ids": [9], "logit_bias": {"3": -100.0, "4": -100.0}}
    assert own.items() <= trace["sampling_params"].items()
    engine.close()


def test_an_adapter_takes_the_place_of_the_one_before(server, tmp_path):
    engine = connect()
    engine.load_adapter(tmp_path)
    engine.load_adapter(tmp_path)
    load, unload, reset = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/reset_prefix_cache"
    paths = [(path, body.get("lora_name")) for path, body in server.asked]
    first = [(unload, "zreward-1"), (load, "zreward-1"), (reset, None)]
    second = [(unload, "zreward-2"), (load, "zreward-2"), (reset, None), (unload, "zreward-1")]
    assert paths == first + second
    engine.score(QUESTIONS[:1])
    assert server.asked[-1][1]["model"] == "zreward-2"


@pytest.mark.parametrize("on_cpu", [False, True])
def test_weights_are_read_and_everything_older_is_forgotten(server, tmp_path, on_cpu):
    connect(on_cpu=on_cpu).load_weights(tmp_path)
    calls = [body["method"] for path, body in server.asked if path == "/collective_rpc"]
    assert calls == ["reload_weights"] + ["repack_tied_head"] * on_cpu
    assert server.asked[0][1]["kwargs"] == {"weights_path": str(tmp_path)}
    assert [path for path, _ in server.asked[len(calls) :]] == [
        f"/reset_{name}_cache" for name in ("mm", "encoder", "prefix")
    ]


def test_of_several_processes_one_brings_the_weights(server, tmp_path):
    engine = connect(leads=False)
    engine.load_adapter(tmp_path)
    engine.load_weights(tmp_path)
    assert server.asked == []
    engine.score(QUESTIONS[:1])
    assert server.asked[-1][1]["model"] == "zreward-1"  # by the name that the first process gives it


@pytest.mark.parametrize("factor", [2.0, 8.0])
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5"])
def test_rounding_to_8_bits_moves_a_resized_pictures_label_a_little(family, factor):
    """The figure in docs/guides/vllm.md. A picture that travels as PNG is the same but for rounding."""
    model = sharpen(tiny_model(family, seed=1), factor)
    shown = [model.open(picture) for picture in noise_pictures(4, ((40, 50), (70, 33)))]
    sent = [to_pixels(base64.b64decode(png_uri(picture, 1).partition(",")[2])) for picture in shown]
    assert max(float((mine - other).abs().max()) for mine, other in zip(shown, sent, strict=True)) <= 0.5 / 255 + 1e-6
    rows = [Row((i,), "a red circle", name) for i in range(4) for name in ("realism", "alignment")]
    with torch.no_grad():
        exact, rounded = (
            model.backbone(model.collate(images, rows)).score_logits.softmax(-1) for images in (shown, sent)
        )
    assert 1e-5 < (exact - rounded).abs().max() < 1e-3


# A model with a stand-in for vLLM, beside the model itself.

PROMPTS, NAMES = ["a red circle", "two blue squares", "a green cross"], ("realism", "aesthetics")


@pytest.fixture
def model(monkeypatch) -> RewardModel:
    monkeypatch.setattr(zreward.sampling.sampler, "LocalVllm", StandInEngine)
    for module in (zreward.sampling.sampler, zreward.sampling.teacher):
        monkeypatch.setattr(module, "check_installed", lambda: None)
    return sharpen(tiny_model("qwen3_vl", seed=1, trace_tokens=4), 3)


def check_judgement(model: RewardModel, picture: Any, prompt: str, judged: Any, words: dict[str, list[Any]]) -> None:
    """A judgement beside passes of the model itself over the same traces, one by one."""
    shown = [model.open(picture)]
    for d, name in enumerate(NAMES):
        rows = [Row((0,), prompt, name, trace=trace) for trace in words[name]]
        with torch.no_grad():
            own = torch.cat([model.backbone(model.collate(shown, [row])).score_logits for row in rows]).softmax(-1)
        torch.testing.assert_close(judged.trace_distribution[:, d], own, atol=1e-5, rtol=0)
        torch.testing.assert_close(judged.distribution.probs[0, d], own.mean(0), atol=1e-5, rtol=0)
        assert judged.traces[name] == [model.trace_text(trace) for trace in words[name]]
        assert judged.tokens[:, d].tolist() == [len(trace) for trace in words[name]]


def test_judgements_are_the_models_own_after_the_same_traces(model):
    images, traces = [model.decode(picture) for picture in noise_pictures(3)], 2
    asked = [Row((i,), prompt, name) for i, prompt in enumerate(PROMPTS) for name in NAMES for _ in range(traces)]
    sampler = EngineSampler(model, VllmOptions(), (images[:1], asked[:1]))
    seeds = list(range(len(asked)))
    said = [each.trace for each in sampler.reason(images, asked, 1.0, seeds)]
    assert len({trace.ids for trace in said}) > 8
    for n, judged in enumerate(sampler.judge(images, PROMPTS, traces, NAMES, 1.0, seeds)):
        mine = [(row.dimension, trace) for row, trace in zip(asked, said, strict=True) if row.images == (n,)]
        words = {name: [trace for other, trace in mine if other == name] for name in NAMES}
        check_judgement(model, noise_pictures(3)[n], PROMPTS[n], judged, words)
    sampler.close()


def test_a_teacher_labels_in_windows_as_the_model_does(model):
    pictures = noise_pictures(3, ((32, 32), (48, 32)))
    teacher = VllmTeacher(model, VllmOptions(), torch.device("cpu"))
    parts = list(teacher.score_windows([(picture,) for picture in pictures], PROMPTS, NAMES, 2))
    assert [len(part) for part in parts] == [2, 1]
    expected = model.score(pictures, PROMPTS, NAMES).probs
    torch.testing.assert_close(torch.cat([part.probs for part in parts]), expected, atol=1e-5, rtol=0)
    judged = teacher.judge(pictures, PROMPTS, 1, NAMES, temperature=0, batch_size=2)
    for mine, other in zip(judged, model.judge(pictures, PROMPTS, 1, NAMES, temperature=0), strict=True):
        assert mine.traces == other.traces
        torch.testing.assert_close(mine.distribution.probs, other.distribution.probs, atol=1e-5, rtol=0)
    assert teacher.report().startswith("vLLM answered 12 questions; at its start, label probabilities were within ")
    assert teacher.fingerprint() == model.fingerprint() | {"engine": "vllm"}
    with pytest.raises(InputError, match="temperature is -1; expected a number"):
        teacher.judge(pictures, PROMPTS, temperature=-1)
    teacher.close()
