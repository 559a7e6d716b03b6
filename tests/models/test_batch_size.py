"""How many pictures go together where nobody says: a constant on a CPU, tokens by free memory on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model
from zreward.models import batch_size
from zreward.models.batch_size import MOST_TOKENS, bytes_per_token, default_batch


@dataclass
class Backbone:
    """As much of one as the choice reads."""

    text: SimpleNamespace
    kind: str = "cuda"
    dtype: torch.dtype = torch.bfloat16

    @property
    def label_ids(self):
        return SimpleNamespace(device=torch.device(self.kind))

    @property
    def base(self):
        return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: self.text), dtype=self.dtype)


LINEAR = SimpleNamespace(
    hidden_size=4096, num_attention_heads=16, num_key_value_heads=4, head_dim=256, num_hidden_layers=32,
    layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8,
)  # fmt: skip
PLAIN = SimpleNamespace(hidden_size=64, num_attention_heads=4, num_hidden_layers=3)


def test_a_token_takes_its_activations_and_the_keys_of_every_layer_that_has_some():
    assert bytes_per_token(Backbone(LINEAR)) == 2 * (40 * 4096 + 2 * 8 * 4 * 256)
    assert bytes_per_token(Backbone(PLAIN, dtype=torch.float32)) == 4 * (40 * 64 + 2 * 3 * 64)


def test_the_estimate_is_above_what_was_measured():
    """With a 9 B model on an H100, 8 and 32 pictures of 1,933 tokens took 21.1 and 31.8 GiB at the peak."""
    assert 1 < bytes_per_token(Backbone(LINEAR)) / ((31.8 - 21.1) * 2**30 / (24 * 1933)) < 2


@pytest.mark.parametrize(
    ("free", "longest", "expected"),
    [
        (60 * 2**30, 1100, MOST_TOKENS),
        (5 * 2**30, 1100, int(0.8 * 5 * 2**30 / (2 * (40 * 4096 + 2 * 8 * 4 * 256)))),
        (10**6, 1100, 1100),  # one at a time: memory that runs out says so
        (60 * 2**30, 40_000, 40_000),
    ],
)
def test_free_memory_decides_on_a_gpu(monkeypatch, free, longest, expected):
    asked = []
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: asked.append(device) or free)
    assert default_batch(Backbone(LINEAR), longest) == (64, expected)
    assert asked == [torch.device("cuda")]


def test_a_cpu_keeps_its_constant(monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", None)
    assert default_batch(Backbone(LINEAR, "cpu"), 10**9) == (32, None)


@pytest.fixture
def sizes(monkeypatch):
    """A model whose batches' sizes are noted, and the notes."""
    model, noted = tiny_model(), []
    original = model.distribution_of
    monkeypatch.setattr(
        model, "distribution_of", lambda images, *rest: noted.append(len(images)) or original(images, *rest)
    )
    return model, noted


@pytest.mark.parametrize(
    ("limits", "options", "expected"),
    [
        ((32, None), {}, [32, 8]),
        ((4, None), {}, [4] * 10),
        ((64, 1), {"token_budget": 10**6}, [40]),  # the caller's budget counts
        ((1, 1), {"batch_size": 20}, [20, 20]),  # and so does the caller's size
    ],
)
def test_score_goes_by_the_choice_unless_it_is_told(sizes, monkeypatch, limits, options, expected):
    model, noted = sizes
    monkeypatch.setattr("zreward.models.scoring.default_batch", lambda backbone, longest: limits)
    pictures = noise_pictures(40)
    scores = model.score(pictures, "a red circle", ["realism"], **options).probs
    assert noted == expected
    assert torch.allclose(
        scores[7:8], model.score([pictures[7]], "a red circle", ["realism"], batch_size=1).probs, atol=1e-5
    )


def test_windows_come_in_order_and_open_the_next_one_ahead(sizes):
    model, noted = sizes
    pictures = noise_pictures(7, ((32, 32), (64, 32)))
    opened, decode = [], model.decode
    model.decode = lambda image: opened.append(1) or decode(image)
    windows = model.score_windows([(one,) for one in pictures], [f"a {n}" for n in range(7)], ("realism",), 3, 2)
    first = next(windows)
    assert len(first) == 3 and noted == [2, 1]
    rest = list(windows)
    assert [len(one) for one in rest] == [3, 1] and len(opened) == 7
    expected = model.score(pictures, [f"a {n}" for n in range(7)], ["realism"]).probs
    assert torch.allclose(torch.cat([one.probs for one in (first, *rest)]), expected, atol=1e-5)
