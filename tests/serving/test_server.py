"""The server over HTTP: its answers are those of `score`, its refusals say why, and its protocols are those of their callers."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch

from tests.serving.running import png, running, text
from zreward.common.errors import InputError
from zreward.serving.client import RewardClient
from zreward.serving.settings import Settings

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def server(model):
    with running(model, allow_pickle=True, max_batch=8, max_pixels=100 * 100, max_body=2**20) as url:
        yield url


def post(url, path, body, **options):
    return httpx.post(url + path, json=body, **options)


def test_the_client_gets_what_score_gives(server, model, pictures, tmp_path):
    pictures[1].save(tmp_path / "a.png")
    images = [pictures[0], tmp_path / "a.png", png(pictures[2]), *pictures[3:]]
    expected = model.score(images, PROMPT)
    got = RewardClient(server, chunk=4).score(images, PROMPT)
    assert got.dimensions == expected.dimensions
    assert torch.allclose(got.probs, expected.probs, atol=1e-5)
    chosen = asyncio.run(RewardClient(server).ascore(images[:2], PROMPT, ["realism"]))
    assert torch.allclose(chosen.probs, expected.select(["realism"])[:2].probs, atol=1e-5)


def test_the_client_takes_all_that_score_takes(server, model, pictures):
    array = np.asarray(pictures[0])
    images = [array, torch.from_numpy(array.copy()).permute(2, 0, 1) / 255, {"bytes": png(pictures[0]), "path": None},
              memoryview(png(pictures[0])), pictures[0].convert("CMYK"), pictures[0].convert("RGBA")]  # fmt: skip
    expected = model.score(images, PROMPT)
    client = RewardClient(server)
    assert torch.allclose(client.score(images, PROMPT).probs, expected.probs, atol=1e-4)
    for single in (pictures[0], array, png(pictures[0])):
        assert torch.allclose(client.score(single, PROMPT).probs, expected.probs[:1], atol=1e-4)


def test_many_clients_at_once_get_their_own_answers(server, model, pictures):
    prompts = [f"a {colour} {shape}" for colour in ("red", "blue", "green") for shape in ("circle", "square", "cross")]
    expected = {prompt: model.score(pictures[:1], prompt).probs for prompt in prompts}

    def ask(prompt):
        return prompt, RewardClient(server).score(pictures[:1], prompt).probs

    with ThreadPoolExecutor(9) as threads:
        for prompt, probs in threads.map(ask, prompts * 3):
            assert torch.allclose(probs, expected[prompt], atol=1e-5)


def test_replies_state_scale_model_and_aggregate(server, model, pictures):
    reply = post(server, "/compute", {"prompt": PROMPT, "image": [text(p) for p in pictures[:2]], "step": 7}).json()
    expected = model.score(pictures[:2], PROMPT).mean.mean(-1)
    assert reply["rewards"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert reply["scale"]["min"] == 1 and len(reply["scale"]["bins"]) == 9
    assert reply["aggregate"] == "mean expected score of alignment, realism, aesthetics, plausibility"
    assert "error" not in reply
    health = httpx.get(server + "/health").json()
    assert (health["status"], health["version"]) == ("ok", reply["version"])


def test_get_reward_takes_one_dimension(server, model, pictures):
    body = {"query": [{"prompt": PROMPT, "image": text(pictures[0])}], "dimensions": ["aesthetics"]}
    expected = model.score(pictures[:1], PROMPT, ["aesthetics"]).mean.item()
    assert post(server, "/get_reward", body).json()["rewards"] == pytest.approx([expected], abs=1e-4)


@pytest.mark.parametrize(
    ("item", "status", "words"),
    [
        ({"prompt": PROMPT, "image": "%%%"}, 400, "not base64"),
        ({"prompt": PROMPT, "image": "aGVsbG8="}, 400, "not an image"),
        ({"prompt": PROMPT, "image": "https://example.org/a.png"}, 400, "images are not fetched"),
        ({"prompt": "", "image": "aGVsbG8="}, 422, "prompt"),
        ({"prompt": PROMPT}, 422, "image"),
    ],
)
def test_refusals_say_what_was_wrong(server, item, status, words):
    answer = post(server, "/v1/score", {"items": [item]})
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]", b'{"items": "\xff"}'])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
def test_bodies_that_are_no_request_are_refused_without_being_repeated(server, content, kind):
    answer = httpx.post(server + "/v1/score", content=content, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code in (400, 422)
    assert "input" not in str(answer.json()["detail"][0])


def test_limits(server, pictures):
    large = pictures[0].resize((120, 120))
    answer = post(server, "/v1/score", {"items": [{"prompt": PROMPT, "image": text(large)}]})
    assert answer.status_code == 413 and "120 x 120 is more than 10,000 pixels" in answer.text
    item = {"prompt": PROMPT, "image": text(pictures[0])}
    assert post(server, "/v1/score", {"items": [item] * 9}).status_code == 413
    answer = post(server, "/v1/score", {"items": [{"prompt": "x" * 2**20, "image": "x"}]})
    assert answer.status_code == 413 and "1,048,576 bytes" in answer.text
    answer = httpx.post(server + "/v1/score", content=(b"x" * 2**19 for _ in range(4)))  # no content-length
    assert answer.status_code == 413
    truncated = png(pictures[0])[:100]
    with pytest.raises(InputError, match=r"\(400\).*image 0"):
        RewardClient(server).score([truncated], PROMPT)
    with pytest.raises(InputError, match="unknown dimension"):
        RewardClient(server).score(pictures[:1], PROMPT, ["taste"])


def test_the_token_is_asked_of_everything_but_health(model, pictures):
    with running(model, token="secret") as url:
        assert httpx.get(url + "/health").status_code == 200
        assert httpx.get(url + "/metrics").status_code == 401
        with pytest.raises(InputError, match="401.*Bearer TOKEN"):
            RewardClient(url, token="wrong").score(pictures[:1], PROMPT)
        assert len(RewardClient(url, token="secret").score(pictures[:1], PROMPT)) == 1
        for given, status in (
            ("bearer secret", 200),  # the scheme in any case, and one space or more (RFC 9110)
            ("BEARER  secret", 200),
            ("Bearer SECRET", 401),
            ("Bearersecret", 401),
            ("Basic secret", 401),
            ("secret", 401),
            ("Bearer", 401),
        ):
            assert httpx.get(url + "/metrics", headers={"Authorization": given}).status_code == status, given


def test_metrics_count_requests_and_images(model, pictures):
    with running(model) as url:
        RewardClient(url).score(pictures[:3], PROMPT)
        page = httpx.get(url + "/metrics").text
    assert 'zreward_requests_total{path="/v1/score",status="200"} 1.0' in page
    assert "zreward_images_total 3.0" in page and "zreward_batches 1.0" in page


def test_flow_grpo_and_verl_omni_requests_are_answered_in_pickle(server, model, pictures):
    request = {"images": [png(p) for p in pictures[:2]], "prompts": np.array([PROMPT, "a blue cross"]), "metadata": {}}
    answer = httpx.post(server + "/", content=pickle.dumps(request))
    expected = model.score(pictures[:2], [PROMPT, "a blue cross"]).mean.mean(-1).tolist()
    reply = pickle.loads(answer.content)
    assert reply["outputs"] == reply["scores"] == pytest.approx(expected, abs=1e-4)
    assert "error" not in reply


def test_pickles_that_name_anything_else_are_refused_in_text(server):
    answer = httpx.post(server + "/", content=pickle.dumps({"images": [print], "prompts": ["x"]}))
    assert answer.status_code == 500 and "not a pickle of plain data" in answer.text
    too_many = pickle.dumps({"images": [b"x"] * 9, "prompts": ["x"] * 9})
    answer = httpx.post(server + "/", content=too_many)
    assert answer.status_code == 500 and "send at most 8" in answer.text


def test_without_allow_pickle_there_is_no_such_path(model):
    with running(model) as url:
        answer = httpx.post(url + "/", content=pickle.dumps({"images": [b"x"], "prompts": ["x"]}))
        assert answer.status_code in (404, 405)


def test_settings_refuse_what_would_let_everybody_in():
    with pytest.raises(InputError, match=r"--allow-pickle with --host 0\.0\.0\.0"):
        Settings(host="0.0.0.0", allow_pickle=True)
    assert Settings(host="::1", allow_pickle=True).allow_pickle
    with pytest.raises(InputError, match="the token is empty"):
        Settings(token="")
    with pytest.raises(InputError, match="line ends"):
        Settings(token="secret\n")
