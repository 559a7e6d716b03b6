"""What a judgement says of every trace, against a plain pass of the model over that trace alone."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.common.errors import NotFiniteError
from zreward.models import reasoning
from zreward.models.rollout import Trace
from zreward.models.rows import Row

PROMPTS = ["a red circle", "a small blue cross left of a large green square"]
NAMES = ("realism", "alignment", "aesthetics")
TRACES = 3


@pytest.fixture(params=["qwen3_5", "llava"])
def either_model(request):
    """One whose traces go on from a shared prefix, and one whose are sampled row by row."""
    return sharpen(tiny_model(request.param, seed=5), 6)


@torch.no_grad()
def test_a_judgement_holds_the_traces_and_scores_of_its_own_item(either_model, monkeypatch):
    model, pictures = either_model, noise_pictures(2, ((32, 32), (40, 24)))
    sampled, sample = [], reasoning.sample_traces
    monkeypatch.setattr(
        reasoning, "sample_traces", lambda *args, **more: sampled.append(sample(*args, **more)) or sampled[-1]
    )
    torch.manual_seed(0)
    judged = model.judge(pictures, PROMPTS, traces=TRACES, dimensions=NAMES, temperature=1.3)
    assert len(sampled) == len(NAMES)  # one dimension after the other
    assert len({trace.ids for traces in sampled for trace in traces}) > 6
    for n, judgement in enumerate(judged):
        pixels = model.open(pictures[n])
        for d, name in enumerate(NAMES):
            mine = sampled[d][n * TRACES : (n + 1) * TRACES]
            assert judgement.traces[name] == [model.trace_text(trace) for trace in mine]
            assert judgement.tokens[:, d].tolist() == [len(trace.ids) for trace in mine]
            assert judgement.truncated[:, d].tolist() == [trace.truncated for trace in mine]
            for k, trace in enumerate(mine):
                inputs = model.collate([pixels], [Row((0,), PROMPTS[n], name, trace)])
                alone = model.backbone(inputs).score_logits.softmax(-1)[0]
                assert torch.allclose(judgement.trace_distribution[k, d], alone, atol=1e-5)
        assert torch.allclose(judgement.distribution.probs[0], judgement.trace_distribution.mean(0), atol=1e-6)
        assert judgement.distribution.dimensions == NAMES and len(judgement.distribution) == 1
        assert judgement.distribution.bins.tolist() == model.rubric.scale.bins.tolist()


def test_a_judgement_is_read_off_its_traces(either_model):
    traces = {"b": [Trace((5, 6, 7), True), Trace((8,), False)], "a": [Trace((9, 9), False), Trace((5,), False)]}
    probs, verdict = torch.rand(2, 2, 9), object()
    found = reasoning._judgement(either_model, traces, probs, verdict)
    assert found.distribution is verdict and found.trace_distribution is probs
    assert found.tokens.tolist() == [[3, 2], [1, 1]]
    assert found.truncated.tolist() == [[True, False], [False, False]]
    assert found.traces == {name: [either_model.trace_text(trace) for trace in mine] for name, mine in traces.items()}


@pytest.mark.parametrize(
    ("places", "expected"), [("aabb", 2), ("ab", 1), ("aaa", 3), ("aab", 1), ("abb", 1), ("aabbaa", 2), ("a", 1)]
)
def test_rows_are_repeated_when_all_are_equally_often(places, expected):
    assert reasoning._repetitions([Row((0,), place, "realism") for place in places]) == expected


def test_traces_of_a_model_in_double_precision(either_model):
    """Pictures are opened in float32 and shown in the model's number format, whichever way traces are sampled."""
    model = either_model.double()
    images = [model.open(picture) for picture in noise_pictures(2)]
    rows = [Row((n,), PROMPTS[n], "realism") for n in (0, 1)]
    alone = model.reason(images, rows, temperature=0)
    assert [len(trace) > 0 for trace in alone] == [True, True]
    assert model.reason(images, [rows[0], rows[0], rows[1], rows[1]], temperature=0) == [
        *[alone[0]] * 2,
        *[alone[1]] * 2,
    ]


def test_a_trace_that_cannot_be_sampled_is_told_by_its_item_and_dimension(either_model, monkeypatch):
    """Six rows of two items: the fifth belongs to the second."""

    def fail(*args, **more):
        raise NotFiniteError(4)

    monkeypatch.setattr(reasoning, "sample_traces", fail)
    with pytest.raises(NotFiniteError, match="item 1, dimension 'realism'"):
        either_model.judge(noise_pictures(2), PROMPTS, traces=TRACES, dimensions=NAMES)


def test_a_window_has_room_for_the_longest_trace_and_its_answer(monkeypatch):
    """What follows a question in later passes: a trace that ran out, a stop marker, and what an answer begins with."""
    model, asked = sharpen(tiny_model(trace_tokens=5)), []
    shared = model.backbone.shared_prefix
    monkeypatch.setattr(shared, "cut", lambda *given, singly=False, ahead=0: asked.append((singly, ahead)))
    images, row = [model.open(picture) for picture in noise_pictures(1)], Row((0,), "a", "realism")
    model.reason(images, [row, row])
    answer = model.encoder.answer_ids(Trace((7,) * 5, truncated=True))
    assert asked == [(True, len(answer))] and len(answer) > 5 + len(model.encoder.stop_ids)


def test_sampling_keeps_no_gradient(either_model, monkeypatch):
    seen, collate = [], either_model.collate
    monkeypatch.setattr(
        either_model, "collate", lambda *a, **k: seen.append(torch.is_grad_enabled()) or collate(*a, **k)
    )
    either_model.reason([either_model.open(picture) for picture in noise_pictures(1)], [Row((0,), "a", "realism")])
    assert seen and not any(seen) and torch.is_grad_enabled()
