"""Where a trace ends, what may not be sampled, and what `generate` is asked for."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin

from tests.tiny import noise_pictures, tiny_model
from zreward.models.rollout import Trace, _Draw, sample_traces
from zreward.models.rows import Row

STOP, PAD = [7, 8], 9
PROMPT = torch.tensor(
    [[0, 7, 8], [5, 6, 7]]
)  # the first ends with a stop marker of its own, the second with half of one


class Written:
    """A model whose `generate` appends the columns of a script, until every row is done, as transformers' own does."""

    def __init__(self, *rows: list[int]) -> None:
        self.columns = torch.tensor(rows).T.tolist()
        self.seen: dict = {}  # shared by the views of this model

    def generate(self, input_ids, logits_processor, stopping_criteria, max_new_tokens, pad_token_id, **options):
        assert pad_token_id == PAD
        self.seen |= {"options": options, "budget": max_new_tokens}
        self.seen["scores"] = logits_processor(input_ids, torch.zeros(len(input_ids), 10))
        done = torch.zeros(len(input_ids), dtype=torch.bool)
        for column in self.columns[:max_new_tokens]:
            new = torch.where(done, pad_token_id, torch.tensor(column))
            input_ids = torch.cat([input_ids, new[:, None]], 1)
            done |= stopping_criteria(input_ids, None)
            if done.all():
                break
        return input_ids


def sample(model: Written, **options) -> list[Trace]:
    return sample_traces(model, {"input_ids": PROMPT}, STOP, torch.tensor([2, 4]), PAD, **{"max_tokens": 5, **options})


def test_a_trace_ends_with_its_stop_marker_and_the_others_go_on():
    traces = sample(Written([1, 7, 8, 1, 1], [8, 7, 1, 7, 8]))
    assert traces == [Trace((1, 7, 8), truncated=False), Trace((8, 7, 1, 7, 8), truncated=False)]
    assert [len(trace) for trace in traces] == [3, 5]


def test_tokens_of_the_prompt_are_no_part_of_a_marker():
    """Row 0's prompt ends with a whole marker, and row 1's with its first token: neither ends the trace."""
    assert sample(Written([1, 1, 7], [8, 1, 1]), max_tokens=3) == [
        Trace((1, 1, 7), truncated=True),
        Trace((8, 1, 1), truncated=True),
    ]


def test_a_checkpoint_does_not_say_how_traces_are_sampled():
    """What its generation_config.json holds is not in the log-probabilities that training takes of the traces."""
    model = tiny_model(trace_tokens=6)
    plain = greedy(model)
    network = model.backbone.model
    network.generation_config.update(
        repetition_penalty=5.0, suppress_tokens=list(plain[0].ids), num_beams=3, min_new_tokens=6, max_time=1e-9
    )
    settings = network.generation_config
    assert greedy(model) == plain and network.generation_config is settings


def test_a_model_keeps_its_settings_while_others_are_sampled_from():
    """`generate` sees plain settings; at no time are they the model's, from which another thread may be sampling."""
    seen = []

    class Asking(Written):
        def generate(self, **arguments):
            seen.append((self.generation_config, model.generation_config))
            return super().generate(**arguments)

    model, settings = Asking([1], [1]), GenerationConfig(num_beams=2)
    model.generation_config = settings
    sample(model)
    ((plain, others),) = seen
    assert plain.to_dict() == GenerationConfig().to_dict() and others is settings
    assert model.generation_config is settings


def greedy(model) -> list[Trace]:
    pictures = [model.open(picture) for picture in noise_pictures(2)]
    return model.reason(pictures, [Row((n,), "a red circle", "realism") for n in range(2)], temperature=0)


def test_a_marker_alone_is_a_trace_and_one_at_the_end_of_the_budget_is_not_cut():
    assert sample(Written([7, 8, 3], [1, 7, 8]), max_tokens=3) == [
        Trace((7, 8), truncated=False),
        Trace((1, 7, 8), truncated=False),
    ]


def test_generation_stops_once_every_row_has_its_marker():
    model = Written([7, 8, 1, 1], [7, 8, 2, 2])
    model.columns.append(None)  # would fail if it were reached
    assert [trace.ids for trace in sample(model, max_tokens=9)] == [(7, 8), (7, 8)]


def test_banned_tokens_have_no_probability():
    model = Written([1], [1])
    sample(model)
    assert model.seen["scores"].tolist() == [[-math.inf if token in (2, 4) else 0.0 for token in range(10)]] * 2


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.7, {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0}),
        (0.0, {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}),
    ],
)
def test_the_whole_distribution_is_sampled_from(temperature, expected):
    """No top-k or top-p: training takes log-probabilities under the whole distribution."""
    model = Written([1], [1])
    sample(model, max_tokens=4, temperature=temperature)
    assert model.seen["options"] == {**expected, "use_cache": True, "eos_token_id": None}
    assert model.seen["budget"] == 4
    assert {"logits_processor", "stopping_criteria"} < set(inspect.signature(GenerationMixin.generate).parameters)


def test_processes_that_need_one_another_go_on_together():
    model = Written([1], [1])
    sample(model, synced=True)
    assert model.seen["options"]["synced_gpus"] is True


def test_without_a_temperature_it_is_one():
    model = Written([1], [1])
    sample(model)
    assert model.seen["options"]["temperature"] == 1.0


def test_no_gradient_is_kept():
    seen = []

    class Asking(Written):
        def generate(self, **arguments):
            seen.append(torch.is_grad_enabled())
            return super().generate(**arguments)

    sample(Asking([1], [1]))
    assert seen == [False] and torch.is_grad_enabled()


def test_rows_are_done_each_for_itself():
    """Three rows and a marker of two tokens: nothing of it can be read along the wrong axis."""
    prompt, model = torch.zeros(3, 1, dtype=torch.long), Written([7, 8, 1, 1], [1, 7, 8, 1], [7, 7, 7, 8])
    traces = sample_traces(model, {"input_ids": prompt}, STOP, torch.tensor([2]), PAD, 4)
    assert [trace.ids for trace in traces] == [(7, 8), (1, 7, 8), (7, 7, 7, 8)]
    assert not any(trace.truncated for trace in traces)


@pytest.mark.parametrize("row", [0, 1])
def test_a_row_that_is_no_number_is_named(row):
    """The first such row, whichever of its tokens it is."""

    class Broken(Written):
        def generate(self, input_ids, logits_processor, **options):
            scores = torch.zeros(len(input_ids), 10)
            scores[row:, 3] = float("nan")
            logits_processor(input_ids, scores)

    with pytest.raises(ValueError, match=f"item {row}\\b"):
        sample(Broken([1], [1]))


def test_a_seeded_token_is_the_first_whose_cumulative_probability_passes_the_rows_own_number():
    """Beside it a plain loop in float64, at two temperatures and at a later token of the trace."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    uniform = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    for temperature in (1.0, 0.5):
        for step in (0, 3):
            ids = torch.cat([PROMPT, torch.ones(2, step, dtype=torch.long)], 1)
            found = _Draw(uniform, PROMPT.shape[1], temperature)(ids, scores)
            for n in range(2):
                weights = [math.exp(value / temperature) for value in scores[n].tolist()]
                total, passed = 0.0, None
                for token, weight in enumerate(weights):
                    total += weight / sum(weights)
                    if passed is None and total > uniform[n, step]:
                        passed = token
                assert found[n].tolist() == [0.0 if token == passed else -math.inf for token in range(10)]


def test_half_precision_scores_are_drawn_from_in_float32():
    """The number lies between the first token's probability and what bfloat16 makes of it."""
    scores = torch.tensor([[0.1, 0.2, 0.3, *[-30.0] * 7]], dtype=torch.bfloat16)
    exact, rounded = scores.double().softmax(-1)[0, 0], scores.softmax(-1)[0, 0].double()
    between = (exact + rounded) / 2
    assert abs(exact - rounded) > 1e-4
    found = _Draw(between.view(1, 1), 3, 1.0)(PROMPT[:1], scores)
    assert found[0].argmax().item() == (0 if between < exact else 1)


def test_seeds_choose_the_tokens_unless_it_is_greedy():
    drawing, greedy = Written([1], [1]), Written([1], [1])
    sample(drawing, seeds=[1, 2], temperature=0.7)
    assert drawing.seen["options"]["do_sample"] is False  # one token is left
    assert [sum(math.isfinite(value) for value in row) for row in drawing.seen["scores"].tolist()] == [1, 1]
    sample(greedy, seeds=[1, 2], temperature=0.0)
    assert [sum(math.isfinite(value) for value in row) for row in greedy.seen["scores"].tolist()] == [8, 8]
