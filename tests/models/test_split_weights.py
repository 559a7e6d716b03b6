"""What processes that run a model together agree upon. The other process is played here; real ones are in tests/engines."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import DIMENSIONS, noise_pictures, sharpen, tiny_model
from zreward.models import reasoning, shared_prefix, split_weights
from zreward.models.backbone import Backbone
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.models.split_weights import alike, in_all

PROMPT = "a red circle above a blue square"
WHOLE, BRANCHES, PREFIXED, BOTH = 0, 2, 3, 4  # codes of passes: none shared, an opening, a prefix, both


@pytest.fixture(scope="module")
def untried() -> RewardModel:
    return sharpen(tiny_model(seed=6))


@pytest.fixture
def judge(untried) -> RewardModel:
    model = copy.deepcopy(untried)
    model.backbone.shared_prefix.right = True
    return model


@pytest.fixture
def other(monkeypatch) -> list[int]:
    """What another process answers, one number after the other."""
    answers: list[int] = []

    def all_reduce(ends: torch.Tensor, how: object) -> None:
        assert how is torch.distributed.ReduceOp.MAX
        number = answers.pop(0)
        ends.copy_(torch.maximum(ends, torch.tensor([number, -number])))

    monkeypatch.setattr(split_weights.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(Backbone, "is_sharded", property(lambda backbone: True))
    return answers


def rows_of(judge: RewardModel, dimensions: tuple[str, ...], pictures: int = 1):
    images = [judge.open(picture) for picture in noise_pictures(pictures)]
    rows = [Row((i,), PROMPT, name) for i in range(pictures) for name in dimensions]
    return replace(judge.collate(images, rows), share=True)


def test_numbers_are_alike_only_when_they_are_equal(judge, other):
    other += [3, 2, 4]
    assert [alike(judge.backbone, 3) for _ in range(3)] == [True, False, False]


def test_all_say_yes_only_when_each_does(judge, other):
    other += [1, 0, 1, 0]
    assert [in_all(judge.backbone, yes) for yes in (True, True, False, False)] == [True, False, False, False]


def test_one_process_decides_alone(judge, monkeypatch):
    monkeypatch.setattr(split_weights.dist, "all_reduce", None)
    assert alike(judge.backbone, 3) and in_all(judge.backbone, True) and not in_all(judge.backbone, False)
    assert judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS)).prefix is not None


def test_processes_with_the_same_passes_share(judge, other):
    other += [PREFIXED]
    assert judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS)).prefix is not None
    assert not other


def test_a_single_row_gets_a_prefix_where_others_have_one(judge, other):
    other += [PREFIXED, PREFIXED]
    cut = judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS[:1]))
    assert cut is not None and cut.prefix is not None and cut.opening is None
    assert not other


@pytest.mark.usefixtures("short_openings")
def test_a_single_item_gets_an_opening_where_others_have_one(judge, other):
    other += [BOTH, BOTH]
    cut = judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS))
    assert cut is not None and cut.prefix is not None and cut.opening is not None
    other += [BRANCHES, BOTH]
    assert judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS[:1])).prefix is not None
    assert not other


def test_rows_are_read_whole_where_another_process_cannot_share(judge, other):
    other += [WHOLE, WHOLE]
    assert judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS)) is None
    assert not other


def test_layers_are_prepared_before_several_passes(judge, other, monkeypatch):
    prepared = []
    monkeypatch.setattr(shared_prefix, "prepare_layers", prepared.append)
    other += [WHOLE, WHOLE]
    judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS))
    assert prepared == []
    other += [PREFIXED]
    judge.backbone.shared_prefix.cut(judge.backbone, rows_of(judge, DIMENSIONS))
    assert prepared == [judge.backbone.base]


def test_the_second_attempt_cuts_as_the_others_do(judge, other, monkeypatch):
    """With a prefix of its own for a single row, and as many tokens ahead."""
    asked, found = [], SimpleNamespace(opening=None, prefix=object())

    def share(backbone, inputs, kept, singly, ahead):
        asked.append((kept, singly, ahead))
        return found if singly else None

    monkeypatch.setattr(shared_prefix, "_share_here", share)
    other += [PREFIXED, PREFIXED]
    assert shared_prefix._share(judge.backbone, None, kept=False, singly=False, ahead=7) is found
    assert asked == [(False, False, 7), (True, True, 7)]


def test_every_kind_of_passes_has_a_number_of_its_own():
    kinds = [(None, None), (1, None), (None, 1), (1, 1)]
    codes = [shared_prefix._passes(SimpleNamespace(opening=one, prefix=other)) for one, other in kinds]
    assert [shared_prefix._passes(None), *codes] == [WHOLE, 1, BRANCHES, PREFIXED, BOTH]


def test_the_first_comparison_counts_only_when_it_was_right_in_all(judge, other):
    shared = judge.backbone.shared_prefix
    for answers, right in (
        ([PREFIXED, 0], None),  # the other one's scores are not finite
        ([PREFIXED, 1, 0], False),  # the other one's differ: told over there
        ([PREFIXED, 1, 1, PREFIXED], True),
    ):
        shared.right = None
        other += answers
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cut = shared.cut(judge.backbone, rows_of(judge, DIMENSIONS))
        assert shared.right is right and (cut is not None) == bool(right)
        assert not other


def test_traces_go_on_from_prefixes_only_where_they_do_in_all(judge, other):
    images = [judge.open(picture) for picture in noise_pictures(2)]
    rows = [Row((i,), PROMPT, "realism") for i in range(2)]
    other += [PREFIXED, 1, PREFIXED, 0]
    assert reasoning._encode_questions(judge, images, rows, 1) is not None
    assert reasoning._encode_questions(judge, images, rows, 1) is None
    assert not other


def test_parameters_of_zero_are_split(judge):
    assert not judge.backbone.is_sharded
    next(judge.backbone.parameters()).ds_id = 0
    assert judge.backbone.is_sharded
