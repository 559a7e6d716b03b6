"""What `predict` asks a model, and in which order it puts the answers together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.tiny import COMPARISON, DIMENSIONS, noise_pictures, sharpen, tiny_model
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution
from zreward.evaluation.prediction import metrics_table, predict
from zreward.models.pairwise import comparing
from zreward.models.reasoning import Judgement

PICTURES = noise_pictures(5, seed=2)
PROMPTS = ["a red circle", "a red circle", "a red circle", "two blue squares", "two blue squares"]
RECORDS = [Record(prompt, picture) for prompt, picture in zip(PROMPTS, PICTURES, strict=True)]


def test_a_comparing_model_is_asked_about_every_other_picture_of_the_prompt():
    judge = comparing(sharpen(tiny_model()), COMPARISON)
    made = predict(judge, RECORDS, ["realism", "alignment"], batch_size=2, progress=False)
    for n, record in enumerate(RECORDS):
        answers = [
            judge.score([record.image], record.prompt, ["realism", "alignment"], references=[other.image]).probs[0]
            for other in RECORDS
            if other is not record and other.prompt == record.prompt
        ]
        assert torch.allclose(made.probs[n], sum(answers) / len(answers), atol=1e-5)
    assert made.compares and (made.output_tokens == 1).all() and (made.truncated == 0).all()


def test_a_group_and_not_the_prompt_says_what_belongs_together():
    judge = comparing(sharpen(tiny_model()), COMPARISON)
    grouped = [Record(f"{record.prompt} {n}", record.image, group="g") for n, record in enumerate(RECORDS[:2])]
    made = predict(judge, grouped, ["realism"], progress=False)
    other = judge.score([PICTURES[0]], grouped[0].prompt, ["realism"], references=[PICTURES[1]]).probs
    assert torch.allclose(made.probs[0], other[0], atol=1e-5)


@pytest.fixture
def asked(monkeypatch):
    """A model whose judgements are known numbers, and what it was asked: (images, prompts, traces, names, ...)."""
    model, calls = tiny_model(), []
    bins = model.rubric.scale.bins

    def judge(images, prompts, traces, names, temperature, size):
        calls.append((list(images), list(prompts), traces, tuple(names), temperature, size, torch.rand(1).item()))
        found = []
        for image in images:
            n = PICTURES.index(image)
            probs = torch.eye(9)[torch.tensor([[n + d for d in range(len(names))]])]
            tokens = torch.tensor([[2 * n + d for d in range(len(names))], [2 * n + d + 2 for d in range(len(names))]])
            cut = torch.tensor([[d == 1] * 2 for d in range(len(names))]).T & torch.tensor([[True], [n > 2]])
            found.append(Judgement(ScoreDistribution(probs, bins, names), {}, probs, tokens, cut))
        return found

    monkeypatch.setattr(model, "judge", judge)
    return SimpleNamespace(model=model, calls=calls)


def test_with_reasoning_options_reach_the_model_and_figures_their_place(asked):
    how = {"reasoning": True, "traces": 2, "batch_size": 3, "temperature": 0.3, "progress": False}
    made = predict(asked.model, RECORDS, ["realism", "alignment"], seed=4, **how)
    names = ("realism", "alignment")
    assert [call[:6] for call in asked.calls] == [
        (PICTURES[:3], PROMPTS[:3], 2, names, 0.3, 3),
        (PICTURES[3:], PROMPTS[3:], 2, names, 0.3, 3),
    ]
    assert made.dimensions == names
    assert made.mean.tolist() == [[1 + n / 2, 1 + (n + 1) / 2] for n in range(5)]
    assert made.output_tokens.tolist() == [[2 * n + 2, 2 * n + 3] for n in range(5)]  # the mean, and 1 for the label
    assert made.truncated.tolist() == [[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 1.0], [0.0, 1.0]]
    torch.manual_seed(4)
    assert asked.calls[0][-1] == torch.rand(1).item() and asked.calls[0][-1] != asked.calls[1][-1]


def test_the_direct_form_asks_in_batches_and_in_the_order_of_the_records():
    model, sizes = sharpen(tiny_model()), []
    original = model.score_opened

    def score(images, prompts, names, batch_size, budget):
        sizes.append((len(images), batch_size, names))
        return original(images, prompts, names, batch_size, budget)

    model.score_opened = score
    made = predict(model, RECORDS, batch_size=2, progress=False)
    assert sizes == [(2, 2, DIMENSIONS), (2, 2, DIMENSIONS), (1, 2, DIMENSIONS)]
    del model.score_opened
    for n, record in enumerate(RECORDS):
        assert torch.allclose(
            made.probs[n], model.score([record.image], record.prompt, batch_size=1).probs[0], atol=1e-5
        )


def test_every_dimensions_row_has_its_own_tokens_and_cut_traces(asked):
    rated = [Record(r.prompt, r.image, {"realism": 3.0, "alignment": 2.0}) for r in RECORDS]
    made = predict(asked.model, rated, ["realism", "alignment"], reasoning=True, progress=False)
    rows = {row["dimension"]: row for row in metrics_table(made, rated)}
    assert [rows[name]["output_tokens"] for name in ("realism", "alignment", "all")] == [6.0, 7.0, 6.5]
    assert [rows[name]["truncated"] for name in ("realism", "alignment", "all")] == pytest.approx([0.0, 0.7, 0.35])


def test_pairs_are_counted_within_the_group_that_a_record_names():
    """Two groups of two under four prompts; by prompt there would be no pair."""
    grouped = [
        Record(f"{n}", picture, {"realism": 1.0 + n}, group="one" if n < 2 else "two")
        for n, picture in enumerate(PICTURES[:4])
    ]
    made = predict(tiny_model(), grouped, ["realism"], progress=False)
    assert metrics_table(made, grouped)[0]["n_pairs"] == 2
