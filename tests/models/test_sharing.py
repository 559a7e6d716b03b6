"""How rows are cut into passes: what they have in common stands in one of them, and no token is lost or read twice."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

import zreward.models.sharing
from zreward.models.inputs import ModelInput
from zreward.models.sharing import Part, SharedRows, share_rows
from zreward.models.tokens import pad

IMAGE, PAD = 99, 0
LONG = [1, 1, 2, 3]  # what stands before the images, in tests of an opening


@pytest.fixture
def short(monkeypatch) -> None:
    """Openings of four tokens are worth a pass of their own."""
    monkeypatch.setattr(zreward.models.sharing, "SHORT_OPENING", len(LONG))


def rows(*ids: list[int], shown: list | None = None, **options) -> ModelInput:
    """Right-padded rows; `shown`: the image of each, or its several, by default one of its own."""
    input_ids, mask = pad(ids, PAD)
    numbers = torch.tensor([[n] if isinstance(n, int) else n for n in shown or range(len(ids))])
    return ModelInput(input_ids, mask, torch.zeros(0, 3), torch.ones(int(numbers.max()) + 1, 3), numbers, **options)


def cut(inputs: ModelInput, kept: bool = False, **options) -> SharedRows | None:
    return share_rows(inputs, IMAGE, kept, **options)


def unpadded(part: Part, left: bool = False) -> list[list[int]]:
    assert not part.ids[~part.mask.bool()].any(), "padded places are zeros"
    steps = part.mask.diff(dim=1)
    assert (steps >= 0).all() if left else (steps <= 0).all(), f"padding stands on the {'left' if left else 'right'}"
    assert part.mask.sum(1).max() == part.mask.shape[1], "no wider than the longest row"
    return [row[real].tolist() for row, real in zip(part.ids, part.mask.bool(), strict=True)]


# --- an item's prefix


def test_rows_of_an_item_are_cut_behind_what_they_have_in_common():
    given = [[1, IMAGE, 5, 6, 7], [1, IMAGE, 5, 8, 9, 3], [2, IMAGE, 4, 4, 1, 7], [2, IMAGE, 4, 4, 2, 7, 7]]
    found = cut(rows(*given, shown=[0, 0, 1, 1]))
    assert unpadded(found.prefix, left=found.opening is None) == [[1, IMAGE, 5], [2, IMAGE, 4, 4]]
    assert unpadded(found.branches) == [[6, 7], [8, 9, 3], [1, 7], [2, 7, 7]]
    assert found.follow.index.tolist() == [0, 0, 1, 1] and found.follow.times == 2
    assert found.prefix.images.tolist() == [[0], [1]] and found.branches.images is None
    assert found.score_at.tolist() == [1, 2, 1, 2]
    assert found.opening is None and found.trace_mask is None
    assert found.tokens == 3 + 4 + 2 + 3 + 2 + 3 and found.width == 4 + 3


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 3]], [IMAGE, 1]),  # equal rows: two tokens stay for the branch
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 3, 4]], [IMAGE, 1]),
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 4]], [IMAGE, 1]),
        ([[IMAGE, 1, 2, 3, 5], [IMAGE, 1, 2, 4, 5]], [IMAGE, 1, 2]),
        ([[IMAGE, 7, 2, 3], [IMAGE, 8, 2, 3]], [IMAGE]),
        ([[IMAGE, 1, 2, 3, 5], [IMAGE, 1, 2, 4, 5], [IMAGE, 1, 6, 4, 5]], [IMAGE, 1]),  # the least of all rows
        ([[IMAGE, 1, 0, 3, 3], [IMAGE, 1]], None),  # a pad id of a shorter row is not what they have in common
    ],
)
def test_a_branch_has_two_tokens_at_least(given, prefix):
    """One alone would be decoded by kernels that write into the states they read."""
    found = cut(rows(*given, shown=[0] * len(given)))
    if prefix is None:
        assert found is None
        return
    assert unpadded(found.prefix, left=found.opening is None) == [prefix]
    assert unpadded(found.branches) == [row[len(prefix) :] for row in given]


def test_rows_of_an_item_stand_next_to_each_other():
    given = [[IMAGE, 1, 2, 3], [IMAGE, 1, 4, 3], [IMAGE, 1, 5, 3]]
    assert cut(rows(*given, shown=[0, 1, 0])) is None
    found = cut(rows(*given, shown=[1, 0, 0]))
    assert found.follow.index.tolist() == [0, 1, 1] and found.prefix.images.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("shown", "times"),
    [
        ([0, 0, 0], 3),
        ([0, 0, 1], None),
        ([0, 1, 1], None),
        ([0, 0, 1, 1], 2),
        ([0, 1, 1, 1], None),
        ([0, 0, 1, 2], None),
    ],
)
def test_even_items_are_told_from_uneven_ones(shown, times):
    found = cut(rows(*[[IMAGE, 1, 2, n] for n in range(1, 1 + len(shown))], shown=shown))
    assert found.follow.times == times and found.follow.index.tolist() == shown


def test_items_of_single_rows_have_no_prefix_unless_it_is_asked_for():
    inputs = rows([IMAGE, 1, 2, 3], [IMAGE, 4, 5])
    assert cut(inputs) is None
    found = cut(inputs, singly=True)
    assert unpadded(found.prefix, left=found.opening is None) == [[IMAGE, 1], [IMAGE]]
    assert unpadded(found.branches) == [[2, 3], [4, 5]] and found.follow.times == 1


@pytest.mark.parametrize("given", [[[1, 5, IMAGE, 2], [1, 6, IMAGE, 2]], [[1, 2, IMAGE], [1, 2, IMAGE]]])
def test_an_image_behind_what_differs_cannot_be_shared(given):
    assert cut(rows(*given, shown=[0, 0])) is None


def test_one_item_whose_image_comes_late_keeps_all_rows_whole():
    given = [[1, IMAGE, 2, 3, 4], [1, IMAGE, 2, 5, 4], [1, 5, IMAGE, 2], [1, 6, IMAGE, 2]]
    assert cut(rows(*given, shown=[0, 0, 1, 1])) is None


def test_both_images_of_a_comparison_stand_in_the_prefix():
    given = [[IMAGE, 5, IMAGE, IMAGE, 1, 2], [IMAGE, 5, IMAGE, IMAGE, 3, 2], [IMAGE, 5, IMAGE, IMAGE, 3, 2]]
    found = cut(rows(*given, shown=[[1, 0], [1, 0], [1, 2]]))  # the third has the same reference, and another picture
    assert unpadded(found.prefix, left=found.opening is None) == [given[0][:4], given[2][:4]]
    assert found.prefix.images.tolist() == [[1, 0], [1, 2]] and found.follow.index.tolist() == [0, 0, 1]


# --- traces and explanations


def test_what_predicts_a_trace_stands_in_the_branch():
    """Equal traces: the prefix may hold the question, but for its last token."""
    given = [[IMAGE, 1, 2, 7, 8, 9, 4], [IMAGE, 1, 2, 7, 8, 4]]
    trace = torch.tensor([[0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0, 0]])
    found = cut(rows(*given, shown=[0, 0], trace_mask=trace))
    assert unpadded(found.prefix, left=found.opening is None) == [[IMAGE, 1]]
    assert found.trace_mask.tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0]]
    assert found.score_at.tolist() == [4, 3]


def test_a_row_without_a_trace_beside_one_with_a_trace():
    given = [[IMAGE, 1, 2, 5, 7, 8, 4], [IMAGE, 1, 2, 5, 6, 4, 4]]
    trace = torch.tensor([[0, 0, 0, 0, 1, 1, 0], [0] * 7])
    found = cut(rows(*given, shown=[0, 0], trace_mask=trace))
    assert unpadded(found.prefix, left=found.opening is None) == [[IMAGE, 1, 2]]
    assert found.trace_mask.tolist() == [[0, 1, 1, 0], [0] * 4]


def test_where_the_label_is_predicted_stands_in_the_branch():
    """Explanations follow the score: rows may be alike until far behind it."""
    given = [[IMAGE, 1, 2, 3, 7, 7, 7, 8], [IMAGE, 1, 2, 3, 7, 7, 7, 9]]
    found = cut(rows(*given, shown=[0, 0], score_at=torch.tensor([3, 2])))
    assert unpadded(found.prefix, left=found.opening is None) == [[IMAGE, 1]]
    assert found.score_at.tolist() == [1, 0]


# --- the opening


def test_the_opening_ends_where_the_first_image_stands(short):
    given = [
        [*LONG, IMAGE, 5, 6, 7],
        [*LONG, IMAGE, 5, 8, 7, 7],
        [*LONG, IMAGE, IMAGE, 6, 7],
        [*LONG, IMAGE, IMAGE, 8, 7],
    ]
    found = cut(rows(*given, shown=[0, 0, 1, 1]))
    assert found.opening.tolist() == LONG
    assert unpadded(found.prefix, left=found.opening is None) == [[IMAGE, 5], [IMAGE, IMAGE]]
    assert unpadded(found.branches) == [[6, 7], [8, 7, 7], [6, 7], [8, 7]]
    assert found.tokens == 4 + 4 + 9 and found.width == 4 + 2 + 3


def test_the_opening_is_what_all_rows_begin_with(short):
    given = [[*LONG, 5, 6, IMAGE, 1, 2], [*LONG, 5, 7, IMAGE, 1, 2], [*LONG, 5, IMAGE, 1, 2]]
    found = cut(rows(*given))
    assert found.opening.tolist() == [*LONG, 5] and found.prefix is None and found.follow is None
    assert unpadded(found.branches) == [[6, IMAGE, 1, 2], [7, IMAGE, 1, 2], [IMAGE, 1, 2]]
    assert found.branches.images.tolist() == [[0], [1], [2]]
    assert found.score_at.tolist() == [3, 3, 2] and found.width == 5 + 4


def test_a_short_opening_is_not_worth_a_pass(short):
    given = [[*LONG[1:], IMAGE, 5, 6, 7], [*LONG[1:], IMAGE, 5, 8, 7]]
    assert cut(rows(*given), kept=True) is None
    assert cut(rows(*given, shown=[0, 0]), kept=True).opening is None
    assert cut(rows(*[[1, *row] for row in given]), kept=True).opening.tolist() == [1, *LONG[1:]]


@pytest.mark.parametrize(
    ("count", "shown", "kept", "passes"),
    [
        (1, [0], True, (True, False)),
        (1, [0], False, (False, False)),  # of no use to any other row
        (2, [0, 0], True, (True, True)),
        (2, [0, 0], False, (False, True)),  # the one prefix begins with it
        (2, [0, 1], True, (True, False)),
        (2, [0, 1], False, (True, False)),
        (3, [0, 0, 1], False, (True, True)),
    ],
)
def test_an_opening_that_is_not_kept_has_to_serve_several_rows(short, count, shown, kept, passes):
    found = cut(rows(*[[*LONG, IMAGE, 1, 2, n] for n in range(1, count + 1)], shown=shown), kept=kept)
    if passes == (False, False):
        assert found is None
        return
    assert (found.opening is not None, found.prefix is not None) == passes
    if found.opening is None:
        assert unpadded(found.prefix, left=found.opening is None) == [[*LONG, IMAGE, 1]]


@pytest.mark.parametrize(
    ("given", "items", "opening", "prefixes"),
    [
        # of one item: nothing says where its own part begins
        ([[*LONG, 5, 6, 7], [*LONG, 5, 8, 7]], [0, 0], 0, [[*LONG, 5]]),
        ([[*LONG, 5, 6, 7], [*LONG, 5, 8, 7]], [0, 1], 5, None),  # of two: what both begin with, two tokens left
        (
            [[*LONG, 5, 6, 6, 7], [*LONG, 5, 6, 8, 7], [*LONG, 4, 4, 8, 7], [*LONG, 4, 4, 6, 7]],
            [0, 0, 1, 1],
            4,
            [[5, 6], [4, 4]],
        ),
        (
            [[*LONG, 5, 6, 8, 7], [*LONG, 5, 6, 6, 7], [*LONG, 5, 6, 8, 7], [*LONG, 5, 6, 6, 7]],
            [0, 0, 1, 1],
            4,
            [[5, 6], [5, 6]],
        ),
        ([[*LONG, IMAGE, 5, 6, 7], [*LONG, 5, 8, 7]], [0, 1], 4, None),  # beside one with an image
    ],
)
def test_rows_without_an_image(short, given, items, opening, prefixes):
    """They share like others; the opening leaves two tokens for each prefix, also where two items say the same."""
    found = cut(rows(*given, items=torch.tensor(items)), kept=True)
    assert (0 if found.opening is None else len(found.opening)) == opening
    assert (None if found.prefix is None else unpadded(found.prefix, left=not opening)) == prefixes


def test_an_opening_of_the_shipped_length_is_worth_a_pass():
    for length, has_opening in ((63, False), (64, True)):
        found = cut(rows(*[[*([5] * length), IMAGE, 1, 2, n] for n in (1, 2)]))
        assert (found is not None) == has_opening


# --- whatever the rows


def random_rows(rng: random.Random) -> ModelInput:
    """Items of one to four rows with unequal prompts; some without an image, with traces, or with a score predicted early."""
    begin = [rng.randint(1, 3) for _ in range(rng.randint(0, 7))]
    ids: list[list[int]] = []
    shown, items, spans, at = [], [], [], []
    for item in range(rng.randint(1, 3)):
        images = rng.randint(0, 4)
        body = [*([IMAGE] * images), *(rng.randint(1, 3) for _ in range(rng.randint(0, 4)))]
        for _ in range(rng.randint(1, 4)):
            question = [rng.randint(1, 3) for _ in range(rng.randint(2, 4))]
            trace = [rng.randint(1, 2) for _ in range(rng.randint(0, 4))]
            tail = [rng.randint(1, 2) for _ in range(rng.randint(1, 2))]
            row = [*begin, *body, *question]
            spans.append((len(row), len(row) + len(trace)))
            ids.append([*row, *trace, *tail])
            at.append(rng.choice([len(row) - 1, len(ids[-1]) - 1]))
            shown.append(item if images else -1)
            items.append(item)
    inputs = rows(*ids, shown=shown, score_at=torch.tensor(at), items=torch.tensor(items))
    trace_mask = torch.zeros_like(inputs.input_ids)
    for n, (start, end) in enumerate(spans):
        trace_mask[n, start:end] = 1
    return replace(inputs, trace_mask=trace_mask)


def prefix_end(inputs: ModelInput, item: int) -> int:
    """The most that an item's rows have in common, each with two tokens, its score and what predicts its trace left."""
    chosen = [n for n, mine in enumerate(inputs.items.tolist()) if mine == item]
    ids = [row[real].tolist() for row, real in zip(inputs.input_ids, inputs.attention_mask.bool(), strict=True)]
    traces = [[*row.tolist(), 1].index(1) for row in inputs.trace_mask]
    end = 0
    while all(
        end < min(len(ids[n]) - 2, inputs.score_at[n], traces[n] - 1) and ids[n][end] == ids[chosen[0]][end]
        for n in chosen
    ):
        end += 1
    return end


@pytest.mark.parametrize(("kept", "singly"), [(False, False), (True, False), (True, True)])
def test_passes_put_together_are_the_rows(short, kept, singly):
    rng = random.Random(0)
    seen = []
    for _ in range(200):
        inputs = random_rows(rng)
        found = cut(inputs, kept, singly=singly)
        if found is None:
            continue
        opening = [] if found.opening is None else found.opening.tolist()
        branches, lengths = unpadded(found.branches), inputs.attention_mask.sum(1).tolist()
        prefixes = [[]] if found.prefix is None else unpadded(found.prefix, left=not opening)
        of = [0] * len(branches) if found.follow is None else found.follow.index.tolist()
        for n, (branch, length) in enumerate(zip(branches, lengths, strict=True)):
            before = [*opening, *prefixes[of[n]]]
            assert [*before, *branch] == inputs.input_ids[n, :length].tolist()
            assert len(branch) >= 2
            assert IMAGE not in opening and (found.prefix is None or IMAGE not in branch)
            assert found.score_at[n] + len(before) == inputs.score_at[n] and found.score_at[n] >= 0
            trace = inputs.trace_mask[n, :length].tolist()
            assert [*([0] * len(before)), *found.trace_mask[n, : len(branch)].tolist()] == trace
            assert not found.trace_mask[n, len(branch) :].any()
            assert 1 not in trace or trace.index(1) > len(before)
            if found.prefix is not None:
                assert len(before) == prefix_end(inputs, inputs.items[n])
        if found.prefix is not None:
            assert found.prefix.images[of].tolist() == inputs.row_images.tolist()
            assert len(found.prefix.ids) == len(inputs.items.unique())
        seen.append((found.opening is not None, found.prefix is not None))
        assert found.tokens == len(opening) + sum(map(len, prefixes)) + sum(map(len, branches))
    assert {(True, True), (False, True)} <= set(seen)
