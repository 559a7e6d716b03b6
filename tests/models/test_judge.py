"""The reasoning form: what a trace may hold, where its log-probabilities come from, and what the output head is asked for."""

from __future__ import annotations

import pytest
import torch

from zreward.common.errors import InputError
from zreward.models.rollout import Trace
from zreward.models.rows import Row

PROMPT = "a red circle"


def rows_with(model, *texts: str, truncated: bool = False) -> list[Row]:
    rows = []
    for text in texts:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append(
            Row((0,), PROMPT, "realism", Trace((*ids, *([] if truncated else model.encoder.stop_ids)), truncated))
        )
    return rows


def plain_logits(model, pixels, row: Row) -> torch.Tensor:
    """[T, V] of one row alone by the Hugging Face model itself, the way any other program would call it."""
    inputs = model.collate([pixels], [row])
    qwen = {
        "mm_token_type_ids": (inputs.input_ids == model.encoder.image_token_id).int(),
        "image_grid_thw": inputs.grid,
    }
    output = model.backbone.model(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        pixel_values=inputs.patches,
        **({} if model.backbone.base.config.model_type == "llava" else qwen),
    )
    return output.logits[0]


@torch.no_grad()
def test_score_and_trace_log_probs_equal_those_of_the_plain_model(family_model, pictures):
    model, pixels = family_model, family_model.open(pictures[0])
    rows = rows_with(model, " the circle", " the square is blue and too small", "", " é")
    output = model.backbone(model.collate([pixels], rows), temperature=0.7)
    for n, row in enumerate(rows):
        logits = plain_logits(model, pixels, row)
        assert torch.allclose(output.score_logits[n], logits[-1, model.encoder.label_ids], atol=1e-4)
        allowed = logits.clone()
        allowed[:, model.encoder.trace_ban] = float("-inf")
        log_probs = (allowed / 0.7).log_softmax(-1)
        first = len(logits) - len(model.encoder.prefix_ids) - len(row.trace)
        expected = [log_probs[first + k - 1, token].item() for k, token in enumerate(row.trace.ids)]
        mine = output.trace_log_probs[n]
        assert mine[mine != 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_forced_tokens_carry_no_loss(model, pictures):
    """A truncated trace gets the stop marker appended: neither it nor the answer prefix is part of the trace."""
    pixels = model.open(pictures[0])
    (row,) = rows_with(model, " the circle is red", truncated=True)
    inputs = model.collate([pixels], [row])
    marked = inputs.input_ids[inputs.trace_mask.bool()].tolist()
    assert marked == list(row.trace.ids)
    tail = inputs.input_ids[0, -len(model.encoder.stop_ids + model.encoder.prefix_ids) :].tolist()
    assert tail == model.encoder.stop_ids + model.encoder.prefix_ids
    log_probs = model.backbone(inputs).trace_log_probs
    assert (log_probs != 0).sum() == len(row.trace)


def test_a_trace_never_holds_control_or_vision_tokens(family_model, pictures):
    """Even when the model wants nothing else: its head is turned towards the image placeholder."""
    model = family_model
    pixels = [model.open(picture) for picture in pictures[:4]]
    rows = [Row((i % 4,), PROMPT, name) for i in range(16) for name in model.rubric.dimension_names]
    head = model.backbone.base.get_output_embeddings()
    original = head.forward
    banned = set(model.encoder.trace_ban.tolist())
    assert model.encoder.image_token_id in banned
    assert not banned & set(model.encoder.stop_ids)
    bias = torch.zeros(head.weight.shape[0])
    bias[list(banned)] = 50.0
    try:
        head.forward = lambda hidden: original(hidden) + bias
        torch.manual_seed(0)
        traces = model.reason(pixels, rows)
    finally:
        head.forward = original
    assert not banned & {token for trace in traces for token in trace.ids}


def test_traces_end_at_the_stop_marker_or_at_the_budget(model, pictures):
    pixels = [model.open(picture) for picture in pictures[:4]]
    stop = model.encoder.stop_ids
    head = model.backbone.base.get_output_embeddings()
    original, bias = head.forward, torch.zeros(head.weight.shape[0])
    bias[stop] = 5.0  # so that some of the untrained model's traces end early
    rows = [Row((i % 4,), PROMPT, "realism") for i in range(24)]
    try:
        head.forward = lambda hidden: original(hidden) + bias
        torch.manual_seed(1)
        traces = model.reason(pixels, rows)
    finally:
        head.forward = original
    assert {trace.truncated for trace in traces} == {True, False}
    for trace in traces:
        text = list(trace.ids)
        if trace.truncated:
            assert len(trace) == model.max_trace_tokens
            assert stop[0] not in text
        else:
            assert text[-len(stop) :] == stop
            assert text.count(stop[0]) == 1


@torch.no_grad()
def test_sampling_follows_the_distribution_that_log_probs_describe(model, pictures):
    """The first token of 800 traces, against the probabilities of the training pass (total variation)."""
    model_budget, model.max_trace_tokens = model.max_trace_tokens, 1
    pixels = model.open(pictures[1])
    try:
        torch.manual_seed(2)
        traces = model.reason([pixels], [Row((0,), PROMPT, "realism")] * 800, temperature=0.5)
    finally:
        model.max_trace_tokens = model_budget
    seen = torch.bincount(torch.tensor([trace.ids[0] for trace in traces]), minlength=len(model.tokenizer)) / 800
    tokens = seen.nonzero().flatten().tolist()
    rows = [Row((0,), PROMPT, "realism", Trace((token,), truncated=True)) for token in tokens]
    output = model.backbone(model.collate([pixels], rows), temperature=0.5)
    predicted = output.trace_log_probs.sum(1).exp()
    # Each predicted probability within five standard errors of what was sampled.
    error = (predicted * (1 - predicted) / 800).sqrt() * 5 + 1e-3
    assert ((seen[tokens] - predicted).abs() <= error).all()
    assert predicted.sum() > 0.8


def test_judge_averages_the_distributions_of_its_traces(family_model, pictures):
    torch.manual_seed(3)
    judged = family_model.judge(pictures[:3], [PROMPT, "a square", "café"], traces=4, batch_size=2)
    assert len(judged) == 3
    for judgement in judged:
        assert judgement.distribution.probs.shape == (1, 4, 9)
        assert judgement.trace_distribution.shape == (4, 4, 9)
        assert torch.allclose(judgement.trace_distribution.mean(0), judgement.distribution.probs[0])
        assert torch.allclose(judgement.distribution.probs.sum(-1), torch.ones(1, 4))
        assert judgement.tokens.shape == judgement.truncated.shape == (4, 4)
        assert {len(texts) for texts in judgement.traces.values()} == {4}
        assert not any("</think>" in text for texts in judgement.traces.values() for text in texts)


def test_judge_repeats_itself_with_the_same_random_state(model, pictures):
    results = []
    for _ in range(2):
        torch.manual_seed(4)
        (judgement,) = model.judge(pictures[:1], PROMPT)
        results.append(judgement)
    assert results[0].traces == results[1].traces
    assert torch.equal(results[0].distribution.probs, results[1].distribution.probs)


def test_greedy_traces_do_not_depend_on_the_random_state(model, pictures):
    texts = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        texts.append(model.judge(pictures[:2], PROMPT, temperature=0)[0].traces)
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"traces": 0}, "traces is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"traces": 1.5}, "traces is 1.5; expected a whole number"),
        ({"batch_size": "2"}, "batch_size is '2'; expected a whole number"),
    ],
)
def test_judge_refuses_what_cannot_be_sampled(model, pictures, options, message):
    with pytest.raises(InputError, match=message):
        model.judge(pictures[:1], PROMPT, **options)


def test_scoring_never_runs_the_whole_head(family_model, pictures):
    """Neither (T, V) nor (N, V) logits: only the label rows of the output matrix are used."""
    head = family_model.backbone.base.get_output_embeddings()
    calls = []
    handle = head.register_forward_hook(lambda module, args, output: calls.append(output.shape))
    try:
        family_model.score(pictures[:4], PROMPT)
    finally:
        handle.remove()
    assert calls == []


def test_an_adapted_head_is_asked_for_the_score_positions_only(model, pictures):
    """A head that is not a plain matrix (sharded, quantised, LoRA) has to run, but for N positions."""
    base = model.backbone.base
    plain = base.get_output_embeddings()

    class Adapted(torch.nn.Linear):
        def forward(self, hidden):
            shapes.append(tuple(hidden.shape))
            return super().forward(hidden)

    shapes: list[tuple[int, ...]] = []
    adapted = Adapted(plain.in_features, plain.out_features, bias=False)
    adapted.weight = plain.weight
    expected = model.score(pictures[:2], PROMPT).probs
    base.set_output_embeddings(adapted)
    try:
        assert torch.allclose(model.score(pictures[:2], PROMPT).probs, expected, atol=1e-5)
    finally:
        base.set_output_embeddings(plain)
    assert shapes == [(2 * 4, plain.in_features)]
