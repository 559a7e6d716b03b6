"""Packing by length, prefetching, halving where memory runs out: nothing lost, nothing changed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.models.batches import OomRetry, pack, prefetch


def test_batches_hold_items_of_similar_length():
    assert pack([5, 1, 4, 2, 3], most=2) == [[0, 2], [4, 3], [1]]


def test_a_batch_keeps_to_the_budget_with_its_padding():
    # 10; then two of at most 6 (12 <= 12); then 3 rows of 4 would be 12
    assert pack([4, 10, 4, 6, 4, 5], most=8, token_budget=12) == [[1], [3, 5], [0, 2, 4]]


def test_an_item_over_the_budget_is_named():
    with pytest.raises(InputError, match=r"item 1 takes 13 tokens, the budget is 12; raise token_budget"):
        pack([4, 13], 8, 12)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_opening_ahead_keeps_the_order(count):
    assert list(prefetch(lambda n: n * n, range(count), 4)) == [
        [n * n for n in range(start, min(start + 4, count))] for start in range(0, count, 4)
    ]


def test_prefetching_stays_at_most_one_list_ahead():
    opened, lock = [], threading.Lock()

    def slow(n: int) -> int:
        with lock:
            opened.append(n)
        return n

    windows = prefetch(slow, range(100), 3)
    next(windows)
    windows.close()
    assert len(opened) <= 6


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda n: 1 // n, [1, 0, 1], 2))


def limited(most: int):
    """Sums at most `most` numbers at a time; also how many it was asked for."""
    asked: list[int] = []

    def run(items: list[int]) -> int:
        asked.append(len(items))
        if len(items) > most:
            raise torch.OutOfMemoryError("out of memory")
        return sum(items)

    return run, asked


def test_memory_that_runs_out_halves_and_says_so_once():
    retry = OomRetry()
    run, asked = limited(3)
    with pytest.warns(UserWarning, match="out of memory with 8 images at a time") as warned:
        assert retry.run(run, list(range(8)), [5] * 8) == [0 + 1, 2 + 3, 4 + 5, 6 + 7]
    assert len(warned) == 1
    assert asked == [8, 4, 2, 2, 2, 2]
    assert retry.run(run, [1, 2, 3], [5, 5, 5]) == [3, 3]  # remembered


def test_after_a_large_picture_small_ones_still_share_a_batch():
    retry = OomRetry()
    run, _ = limited(1)
    with pytest.warns(UserWarning, match="out of memory"):
        retry.run(run, [1, 2], [100, 100])
    run, asked = limited(10)
    retry.run(run, list(range(20)), [10] * 20)
    assert asked == [10, 10]  # 100 tokens at a time


def test_a_single_item_that_does_not_fit_is_an_error():
    run, _ = limited(0)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="2 images at a time"):
        OomRetry().run(run, [1, 2], [1, 1])


@pytest.fixture
def mixed() -> tuple[list[Image.Image], list[str]]:
    """Pictures and prompts of many lengths."""
    rng = np.random.default_rng(3)
    sizes = [(32, 32), (96, 32), (32, 64), (64, 64), (128, 32), (32, 32), (96, 96)]
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    return pictures, ["a red circle" + " and a blue square" * (n % 3) for n in range(len(sizes))]


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"token_budget": 1400}, {"batch_size": 1}])
def test_scores_do_not_depend_on_how_they_are_batched(family_model, mixed, options):
    pictures, prompts = mixed
    alone = torch.cat([family_model.score([picture], prompt).probs for picture, prompt in zip(*mixed, strict=True)])
    assert torch.allclose(family_model.score(pictures, prompts, **options).probs, alone, atol=1e-4)
    assert alone.std(0).max() > 1e-3


def test_scores_survive_memory_that_runs_out(model, pictures, monkeypatch):
    expected = model.score(pictures[:6], "a red circle").probs
    original, failed = model.distribution_of, []

    def tight(images, *rest):
        if len(images) > 2:
            failed.append(len(images))
            raise torch.OutOfMemoryError("out of memory")
        return original(images, *rest)

    monkeypatch.setattr(model, "distribution_of", tight)
    monkeypatch.setattr(model, "oom_retry", OomRetry())
    with pytest.warns(UserWarning, match="going on with fewer"):
        assert torch.allclose(model.score(pictures[:6], "a red circle").probs, expected, atol=1e-4)
    before = len(failed)
    assert before
    model.score(pictures[:6], "a red circle")
    assert len(failed) == before  # the next call knows what fits
