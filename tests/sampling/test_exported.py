"""A folder of `zreward export` on vLLM's own server: its requests return the scores; AutoProcessor loads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoProcessor

from tests.publishing.loading import plain_scores
from tests.sampling.models import vllm_model
from tests.sampling.servers import serving
from tests.tiny import noise_pictures
from zreward.endpoint.requests import data_uri
from zreward.models.reward_model import RewardModel
from zreward.publishing.export import export

PROMPT = "a large red circle"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """The exported folder, and the address of its server."""
    folder = export(vllm_model("qwen3_vl"), tmp_path_factory.mktemp("exported") / "judge")
    with serving(folder, folder.parent / "log", "--served-model-name", "judge") as address:
        yield folder, address


def filled(body: dict[str, Any], uri: str) -> dict[str, Any]:
    """A request with its picture and its prompt."""
    return json.loads(json.dumps(body).replace('"{image}"', json.dumps(uri)).replace("{prompt}", PROMPT))


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()


def labels_of(answer: dict[str, Any], key: str, keys: list[Any]) -> torch.Tensor:
    listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    by_key = {each[key]: each["logprob"] for each in listed}
    return torch.tensor([by_key[each] for each in keys]).softmax(-1)


def test_both_requests_return_the_scores(served):
    folder, address = served
    (picture,) = noise_pictures(1)
    uri, plan = data_uri(picture), json.loads((folder / "request.json").read_text())
    expected = RewardModel.from_pretrained(folder).score([picture], PROMPT).probs[0]
    assert expected.std(0).max() > 1e-3
    words, ids = ([label[key] for label in plan["labels"]] for key in ("token", "token_id"))
    for d, (name, body) in enumerate(plan["chat"]["bodies"].items()):
        answer = post(f"{address}/v1/chat/completions", filled(body, uri))
        torch.testing.assert_close(labels_of(answer, "token", words), expected[d], rtol=0, atol=1e-5)
        shown = post(f"{address}/tokenize", filled(plan["tokens"]["tokenize"][name], uri))["tokens"]
        image = plan["image_token_id"]
        once = [token for n, token in enumerate(shown) if token != image or shown[n - 1] != image]
        request = filled(plan["tokens"]["generate"], uri) | {"token_ids": [*once, *plan["answer_token_ids"]]}
        answer = post(f"{address}/inference/v1/generate", request)
        torch.testing.assert_close(labels_of(answer, "token_id", ids), expected[d], rtol=0, atol=1e-5)


def test_a_teacher_behind_the_server(served):
    pytest.importorskip("tenacity")
    from zreward.endpoint.settings import EndpointSettings
    from zreward.endpoint.teacher import EndpointTeacher

    folder, address = served
    model, pictures = RewardModel.from_pretrained(folder), noise_pictures(2)
    ids = model.encoder.label_ids.tolist()
    listing = {"logprob_token_ids": ids, "allowed_token_ids": ids}
    settings = EndpointSettings(f"{address}/v1", checkpoint=str(folder), timeout=300, top_logprobs=9, extra=listing)
    remote = EndpointTeacher.connect(settings)
    assert remote.connection.form == "exported"
    found = remote.score(pictures, PROMPT)
    torch.testing.assert_close(found.probs, model.score(pictures, PROMPT).probs, rtol=0, atol=1e-5)
    assert {fact["bounded"] for row in found.facts for fact in row} == {0.0}


def test_autoprocessor_loads_all_parts(served):
    folder, _ = served
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "Qwen3VLProcessor" and processor.video_processor is not None
    (picture,) = noise_pictures(1)
    expected = RewardModel.from_pretrained(folder).score([picture], PROMPT).probs[0]
    torch.testing.assert_close(plain_scores(folder, picture, PROMPT, True), expected, rtol=0, atol=1e-5)
