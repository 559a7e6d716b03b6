"""A teacher behind a real HTTP server, beside the same model on this machine."""

from __future__ import annotations

import base64
import io
import math
import threading

import pytest
import torch
from fastapi.responses import JSONResponse
from PIL import Image

from tests.endpoint.server import NAME, serving
from tests.tiny import DIMENSIONS, noise_pictures, sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.endpoint.client import EndpointClient
from zreward.endpoint.connection import Connection
from zreward.endpoint.settings import EndpointSettings
from zreward.endpoint.teacher import EndpointTeacher
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.models.teacher import ReportedDistribution
from zreward.prompting import PromptForms
from zreward.publishing.export import export
from zreward.rubric import Rubric

PROMPTS = ["a red circle", "two blue squares above a cross", "the large green triangle"]
ALL = 1000  # more than the tiny vocabulary


@pytest.fixture
def pictures():
    return noise_pictures(3, ((32, 32), (48, 32)))


def teacher(url: str, folder: str, **settings) -> EndpointTeacher:
    return EndpointTeacher.connect(
        EndpointSettings(url, checkpoint=folder, **{"top_logprobs": ALL, "retries": 0} | settings)
    )


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_vl", "llava"])
def test_complete_lists_give_the_local_scores(family, tmp_path, pictures):
    local = sharpen(tiny_model(family, seed=2), 3)
    local.save_pretrained(tmp_path / "judge")
    with serving(local, most=ALL) as (url, _):
        remote = teacher(url, str(tmp_path / "judge"))
        assert remote.connection.form == "continued"
        found = remote.score(pictures, PROMPTS)
    expected = local.score(pictures, PROMPTS)
    assert found.dimensions == expected.dimensions == DIMENSIONS
    assert expected.probs.std(0).max() > 1e-3  # the pictures and prompts make a difference
    torch.testing.assert_close(found.probs, expected.probs, rtol=0, atol=1e-5)
    assert {fact["bounded"] for row in found.facts for fact in row} == {0.0}


def test_traces_are_scored_as_the_local_model_scores_the_same_words(model, folder, pictures):
    with serving(model, most=ALL) as (url, served):
        remote = teacher(url, folder)
        torch.manual_seed(0)
        judged = remote.judge(pictures, PROMPTS, traces=2, dimensions=["realism", "alignment"])
        torch.manual_seed(0)
        again = remote.judge(pictures, PROMPTS, traces=2, dimensions=["realism", "alignment"])
        torch.manual_seed(1)
        other = remote.judge(pictures, PROMPTS, traces=2, dimensions=["realism", "alignment"])
    assert [each.traces for each in judged] == [each.traces for each in again] != [each.traces for each in other]
    said = [body["messages"][-1]["content"] for body in served.asked if body.get("continue_final_message")]
    start = model.forms.reasoning_start
    raw = {text.removeprefix(start).split(model.forms.stop_marker)[0] for text in said if text.startswith(start)}
    by_words = {text.strip(): text for text in raw}
    for i, each in enumerate(judged):
        assert each.distribution.dimensions == ("realism", "alignment") and len(each.distribution) == 1
        for d, name in enumerate(each.distribution.dimensions):
            assert len(set(each.traces[name])) == 2
            expected = [_local(model, pictures[i], PROMPTS[i], name, by_words[text]) for text in each.traces[name]]
            torch.testing.assert_close(each.trace_distribution[:, d], torch.stack(expected), rtol=0, atol=1e-5)
            torch.testing.assert_close(each.distribution.probs[0, d], torch.stack(expected).mean(0), rtol=0, atol=1e-5)


def _local(model, picture, prompt, name, words) -> torch.Tensor:
    """The label distribution after a trace of these words, by the local model."""
    encoder = model.encoder
    start, stop = model.forms.reasoning_start, model.forms.stop_marker
    ids = model.tokenizer(f"{start}{words}{stop}", add_special_tokens=False)["input_ids"]
    trace = Trace(tuple(ids[len(encoder.reasoning_ids) :]), truncated=False)
    assert ids[: len(encoder.reasoning_ids)] == encoder.reasoning_ids
    inputs = model.collate([model.open(picture)], [Row((0,), prompt, name, trace=trace)])
    with torch.no_grad():
        return model.backbone(inputs).score_logits[0].softmax(-1)


def test_what_a_judgement_counts(model, folder, pictures):
    with serving(model, most=ALL) as (url, served):
        remote = teacher(url, folder, max_trace_tokens=5)
        before = remote.connection.client.usage.prompt_tokens
        (judged,) = remote.judge(pictures[:1], PROMPTS[0], traces=3, dimensions=["realism"], temperature=0)
        usage = remote.connection.client.usage
        fact = judged.distribution.facts[0][0]
        assert judged.tokens.tolist() == [[5]] * 3 and judged.truncated.tolist() == [[True]] * 3
        assert len(set(judged.traces["realism"])) == 1
        traces = [body for body in served.asked if body.get("stop")]
        assert [body["max_tokens"] for body in traces] == [5] * 3 and {
            (b["temperature"], b["top_p"]) for b in traces
        } == {(0, 1)}
        assert fact["completion_tokens"] == sum(5 + 3 for _ in range(3))
        assert fact["prompt_tokens"] == usage.prompt_tokens - before > 6 * 30
        assert usage.requests == len(served.asked) and usage.retries == 0
        assert usage.completion_tokens == fact["completion_tokens"] + len(served.asked) - 6
        assert (
            "10 answers (0 retries)" in remote.report() and f"{usage.prompt_tokens:,} prompt tokens" in remote.report()
        )


@pytest.mark.parametrize("top", [2, 5, 8, 20])
def test_short_lists_leave_bounds_that_hold(model, folder, pictures, top):
    """Each label's share, in units of a listed one's, is exact or an upper bound."""
    expected = model.score(pictures, PROMPTS).probs
    with serving(model, most=top, favour=8.0) as (url, served):
        found = teacher(url, folder, top_logprobs=top).score(pictures, PROMPTS)
        assert all(body["top_logprobs"] == top for body in served.asked)
    shares = torch.tensor([[fact["bounded"] for fact in row] for row in found.facts])
    ratio = found.probs / expected
    exact = ratio.amin(-1, keepdim=True)  # that of the listed labels
    is_listed = (ratio - exact).abs() < 1e-4 * exact
    assert (is_listed.sum(-1) >= min(top, 9)).all() and is_listed.all() == (top == 20)
    torch.testing.assert_close((found.probs * ~is_listed).sum(-1), shares, rtol=0, atol=1e-3)
    if top == 20:
        torch.testing.assert_close(found.probs, expected, rtol=0, atol=1e-5)


def test_parts_of_a_distribution_keep_their_facts():
    facts = tuple(({"bounded": n / 10},) for n in range(3))
    whole = ReportedDistribution(torch.full((3, 1, 2), 0.5), torch.tensor([1.0, 2.0]), ("realism",), facts=facts)
    for part, expected in (
        (whole[1], facts[1:2]),
        (whole[-1], facts[2:]),
        (whole[1:], facts[1:]),
        (whole[[2, 0]], (facts[2], facts[0])),
        (whole[torch.tensor([1])], facts[1:2]),
    ):
        assert part.facts == expected and len(part) == len(expected)
    assert [each.facts for each in whole] == [(fact,) for fact in facts]
    with pytest.raises(IndexError):
        whole[3]


def test_the_bounded_share_is_the_mean_over_traces(model, folder, pictures):
    with serving(model, most=2, favour=8.0) as (url, _):
        remote = teacher(url, folder, top_logprobs=2)
        (judged,) = remote.judge(pictures[:1], PROMPTS[0], traces=3, dimensions=["realism"])
    (fact,) = judged.distribution.facts[0]
    shares = [float(probs.min() * 7) for probs in judged.trace_distribution[:, 0]]  # seven labels have the same bound
    assert fact["bounded"] == pytest.approx(sum(shares) / 3, abs=1e-3) and 0.5 < fact["bounded"] < 1


def test_a_server_that_cannot_continue_is_asked(model, folder, pictures):
    """It ignores continue_final_message in one case, and refuses it in the other; without counts it is not trusted."""
    strict = {"refuses": ("chat_template_kwargs", "continue_final_message", "add_generation_prompt")}
    for how in ({"continues": False}, strict, {"counts": False}):
        with serving(model, most=ALL, **how) as (url, served):
            remote = teacher(url, folder)
            assert remote.connection.form == "asked"
            begun = len(served.asked)
            remote.judge(pictures[:1], PROMPTS[0], dimensions=["realism"])
            remote.score(pictures[:1], PROMPTS[0], ["realism"])
        trace, label, direct = served.asked[begun:]
        assert [turn["role"] for turn in trace["messages"]] == ["system", "user"]
        assert [turn["role"] for turn in label["messages"]] == ["system", "user", "assistant", "user"]
        assert label["messages"][-1]["content"] == "Answer with one level only: 1, 2, 3, 4, 5, 6, 7, 8, 9."
        assert not {"chat_template_kwargs", "continue_final_message"} & {*trace, *label, *direct}
        assert direct["messages"][-1]["content"][-1]["text"].endswith(" rate the realism now")


ANSWERS = {"top_logprobs": 7, "longest_side": 64, "extra": {"top_k": -1}}
TRANSPORT = {"concurrency": 1, "retries": 9, "timeout": 1.0, "api_key_variable": "MY_KEY"}


def test_the_fingerprint_holds_what_answers_depend_on_and_nothing_of_how_they_travel():
    def facts(url: str = "http://127.0.0.1:1/v1", model: str = "a", form: str = "asked", tokens: int = 9, **settings):
        client, rubric, forms = EndpointClient(EndpointSettings(url, **settings)), Rubric.default(), PromptForms()
        remote = EndpointTeacher(Connection(client, model, form, rubric, forms), rubric, forms, tokens)
        remote.close()
        return remote.fingerprint()

    plain = facts()
    changes = [{key: value} for key, value in ANSWERS.items()] + [{"model": "b"}, {"form": "continued"}, {"tokens": 8}]
    for change in changes:
        assert facts(**change) != plain, change
    for change in ({key: value} for key, value in TRANSPORT.items()):
        assert facts(**change) == plain, change
    assert facts(url="http://127.0.0.1:2/v1") == plain


def test_pictures_are_sent_as_they_are_seen_and_nothing_else(model, folder, tmp_path):
    (picture,) = noise_pictures(1, ((64, 40),))
    picture.save(tmp_path / "p.png")
    with serving(model, most=ALL) as (url, served):
        teacher(url, folder, longest_side=32).score(
            [str(tmp_path / "p.png")], "a red <|image_pad|> circle", ["realism"]
        )
    (user,) = [turn for turn in served.asked[-1]["messages"] if turn["role"] == "user"]
    shown, text = user["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(shown["image_url"]["url"].partition(",")[2])))
    assert sent.size == (32, 20) and "< |image_pad|>" in text["text"]
    with serving(model, most=ALL) as (url, served):
        with pytest.raises(InputError, match=r"URL; images are not fetched"):
            teacher(url, folder).score([f"{url}/models"], "a red circle")
        assert len(served.asked) == 4


def test_requests_run_side_by_side_but_no_more_than_asked_for(model, folder):
    with serving(model, most=ALL, pause=0.05) as (url, served):
        remote = teacher(url, folder, concurrency=3)
        remote.score(noise_pictures(4), "a red circle", ["realism", "alignment"])
    assert served.most_at_once == 3


def test_threads_may_share_a_teacher(model, folder, pictures):
    with serving(model, most=ALL) as (url, _):
        remote, found = teacher(url, folder), {}

        def score(n: int) -> None:
            found[n] = remote.score(pictures[n : n + 1], PROMPTS[n], ["realism"]).probs

        threads = [threading.Thread(target=score, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = model.score(pictures, PROMPTS, ["realism"]).probs
    torch.testing.assert_close(torch.cat([found[n] for n in range(3)]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen3_5", "llava"])
def test_a_model_of_zreward_export_answers_as_here(family, tmp_path, pictures):
    """Its chat template takes what the model has said; traces begin as in training."""
    local = sharpen(tiny_model(family, seed=2), 3)
    exported = export(local, tmp_path / "judge")
    with serving(RewardModel.from_pretrained(exported), most=ALL) as (url, served):
        remote = teacher(url, str(exported))
        assert remote.connection.form == "exported"
        found = remote.score(pictures, PROMPTS)
        (judged,) = remote.judge(pictures[:1], PROMPTS[0], dimensions=["realism"])
    torch.testing.assert_close(found.probs, local.score(pictures, PROMPTS).probs, rtol=0, atol=1e-5)
    said = served.asked[-1]["chat_template_kwargs"]["answer_start"].removesuffix("</think> level ")
    assert said.strip() == judged.traces["realism"][0]
    expected = _local(local, pictures[0], PROMPTS[0], "realism", said)
    torch.testing.assert_close(judged.distribution.probs[0, 0], expected, rtol=0, atol=1e-5)


def _answering(*messages: dict) -> list:
    """Moods: chat completions with these messages, without log-probabilities."""
    return [JSONResponse({"choices": [{"message": message, "finish_reason": "stop"}]}) for message in messages]


def test_what_servers_make_of_a_trace(model, folder, pictures):
    """With the marker and what follows it, with the beginning that the template wrote, or in a field of its own."""
    with serving(model, most=ALL) as (url, served):
        remote = teacher(url, folder)
        for message in (
            {"content": "<think> a cross </think> level 3"},
            {"content": " a cross "},
            {"content": None, "reasoning_content": " a cross "},
            {"content": "level 3", "reasoning": " a cross "},
        ):
            served.mood += _answering(message)
            (judged,) = remote.judge(pictures[:1], PROMPTS[0], dimensions=["realism"])
            assert judged.traces["realism"] == ["a cross"] and not judged.truncated.any()
            assert served.asked[-1]["messages"][-1]["content"] == "<think> a cross </think> level "


def test_only_where_it_is_asked_may_the_label_stand_behind_other_words(model, folder, pictures):
    def said(*tokens: str) -> JSONResponse:
        listed = [{"token": str(n), "logprob": math.log(0.1)} for n in range(1, 10)]
        content = [{"token": each, "logprob": -1, "top_logprobs": listed} for each in tokens]
        content[1]["top_logprobs"] = [each | {"logprob": math.log(0.02)} for each in listed[:8]] + [
            {"token": "9", "logprob": math.log(0.8)}
        ]
        return JSONResponse({"choices": [{"message": {"content": "x"}, "logprobs": {"content": content}}]})

    with serving(model, most=ALL) as (url, served):
        for form, best in (("continued", 0.1 / 0.9), ("asked", 0.8 / 0.96)):
            remote = teacher(url, folder, answer=form)
            served.mood.append(said("Level", "9"))
            assert remote.score(pictures[:1], PROMPTS[0], ["realism"]).probs[0, 0, 8] == pytest.approx(best)


THINKING = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% set said = m['content'][0]['text'] %}"
    "{% if '</think>' in said %}{{ '<think>\n' + said.split('</think>')[0].split('<think>')[-1].strip() + '\n</think>\n\n' }}"
    "{{ said.split('</think>')[-1].strip() }}"
    "{% else %}{{ '<think>\n\n</think>\n\n' + said.strip() }}{% endif %}"
    "{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}"
    "{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
"""As Qwen's: an empty trace where none is asked for, white space stripped from what the assistant says."""


def test_a_template_that_thinks_and_strips_white_space(pictures):
    """transformers refuses to continue a turn that the template takes apart: the trace is put on lines of its own."""
    thinking = sharpen(tiny_model("qwen3_vl", seed=1), 3)
    thinking.tokenizer.chat_template = THINKING
    with serving(thinking, most=ALL, favour=3.0) as (url, served):
        remote = EndpointTeacher.connect(EndpointSettings(url, max_trace_tokens=6, top_logprobs=ALL, retries=0))
        assert remote.connection.form == "continued" and remote.connection.tidy
        begun = len(served.prompts)
        remote.score(pictures[:1], PROMPTS[0], ["realism"])
        (judged,) = remote.judge(pictures[:1], PROMPTS[0], dimensions=["realism"])
    direct, trace, label = served.prompts[begun:]
    assert direct.endswith("<|im_start|> assistant\n<think>\n\n</think>\n\nLevel:")
    assert trace.endswith("<|im_start|> assistant\n<think>\n")
    assert label.endswith(f"<think>\n{judged.traces['realism'][0]}\n</think>\n\nLevel:")


def test_the_default_rubric_and_the_servers_only_model(model):
    with serving(model, most=ALL) as (url, served):
        remote = EndpointTeacher.connect(f"endpoint:{url}")
        assert remote.connection.model == NAME and remote.rubric.name == "default"
        assert remote.max_trace_tokens == 512
    assert "The image was generated from this prompt" in str(served.asked[0])
    assert math.isclose(served.asked[0]["temperature"], 0)
