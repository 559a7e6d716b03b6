"""vLLM's traces and scores are those of the model itself, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.sampling.models import FAMILIES, NAMES, PROMPTS, own_answers, pictures, rows, sampler_of, vllm_model
from zreward.sampling.sampler import EngineSampler

SEEDS = range(100, 106)


@pytest.fixture(scope="module", params=FAMILIES)
def sampler(request) -> Iterator[EngineSampler]:
    made = sampler_of(vllm_model(request.param))
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_log_probabilities_of_traces_are_the_models_own(sampler, temperature):
    model = sampler.model
    sampled = sampler.reason(pictures(model), rows(), temperature, SEEDS)
    answered = [replace(row, trace=each.trace) for row, each in zip(rows(), sampled, strict=True)]
    _, own = own_answers(model, answered, temperature or 1.0)
    for each, values in zip(sampled, own, strict=True):
        assert len(each.log_probs) == len(each.trace)
        torch.testing.assert_close(torch.tensor(each.log_probs), values, atol=5e-5, rtol=0)
        assert not set(each.trace.ids) & set(model.encoder.trace_ban.tolist())


def test_greedy_traces_are_those_of_generate(sampler):
    model = sampler.model
    mine = model.reason(pictures(model), rows(), 0.0)
    assert [each.trace for each in sampler.reason(pictures(model), rows(), 0.0, SEEDS)] == mine


def test_a_trace_depends_on_its_own_seed_only(sampler):
    shown, asked = pictures(sampler.model), rows()
    together = sampler.reason(shown, asked, 1.0, SEEDS)
    alone = sampler.reason(shown, asked[3:4], 1.0, [SEEDS[3]])
    assert alone[0].trace == together[3].trace
    assert sampler.reason(shown, asked[3:4], 1.0, [7])[0].trace != together[3].trace


def test_the_stop_marker_ends_a_trace(sampler):
    shown, asked = pictures(sampler.model), rows() * 8
    sampled = [each.trace for each in sampler.reason(shown, asked, 1.5, range(len(asked)))]
    stop = sampler.model.encoder.stop_ids[0]
    for trace in sampled:
        assert trace.truncated == (trace.ids[-1] != stop) and stop not in trace.ids[:-1]
        assert len(trace) == 24 or not trace.truncated
    assert any(not trace.truncated for trace in sampled) and any(trace.truncated for trace in sampled)


def test_scores_without_a_trace_are_the_models_own(sampler):
    model = sampler.model
    own, _ = own_answers(model, rows())
    got = sampler.score(pictures(model), PROMPTS, NAMES)
    torch.testing.assert_close(got.probs.flatten(0, 1), own, atol=1e-5, rtol=0)


def test_judgements_are_the_models_own_after_the_same_traces(sampler):
    model = sampler.model
    seeds = range(12)
    judged = sampler.judge(pictures(model), PROMPTS, 2, NAMES, 1.0, seeds)
    asked = [row for row in rows() for _ in range(2)]
    traces = [each.trace for each in sampler.reason(pictures(model), asked, 1.0, seeds)]
    own, _ = own_answers(model, [replace(row, trace=trace) for row, trace in zip(asked, traces, strict=True)])
    own_NDKS = own.view(3, 2, 2, -1)
    for n, judgement in enumerate(judged):
        torch.testing.assert_close(judgement.trace_distribution, own_NDKS[n].transpose(0, 1), atol=1e-5, rtol=0)
        torch.testing.assert_close(judgement.distribution.probs[0], own_NDKS[n].mean(1), atol=1e-5, rtol=0)
        for d, name in enumerate(NAMES):
            place = (n * 2 + d) * 2
            assert judgement.traces[name] == [model.trace_text(trace) for trace in traces[place : place + 2]]


def test_the_engine_leaves_this_process_as_it_was(sampler):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    sampler.reason(pictures(sampler.model), rows(), 1.0, SEEDS)
    assert torch.equal(torch.rand(3), wanted) and torch.get_default_dtype() is torch.float32
