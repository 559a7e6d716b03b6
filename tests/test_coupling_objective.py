"""The coupling term beside a plain loop in float64, and its gradient by finite differences."""

from __future__ import annotations

import pytest
import torch

from zreward.distribution import ScoreScale
from zreward.objectives import coupling_terms

SCALE = ScoreScale()
MU = [1.0, 1.3, 3.0, 3.0, 4.9, 5.0, 2.0, 2.0, 3.5]
EDITED = [1.0, 1.2, 2.2, 3.4, 4.9, 4.0, 2.6, 1.9, 1.0]
DIRECTION = [-1, -1, -1, -1, 1, 1, 1, 1, 0]


def plain(edited: float, mu: float, direction: int, margin: float) -> float:
    if direction == 0:
        return 0.0
    room = 5 - mu if direction > 0 else mu - 1
    wanted = min(margin, room / 2)
    way = edited - mu if direction > 0 else mu - edited
    return max(0.0, wanted - way) / 4


def tensors(*values: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
def test_terms_are_those_of_the_plain_loop(margin):
    edited, mu = tensors(EDITED, MU)
    found = coupling_terms(edited, mu, torch.tensor(DIRECTION), margin, SCALE)
    assert found.tolist() == pytest.approx(
        [plain(e, m, d, margin) for e, m, d in zip(EDITED, MU, DIRECTION, strict=True)], abs=1e-12
    )


def test_the_gradient_goes_to_the_edited_side_alone():
    """A lost detach would also pull the score of the picture's own trace; a wrong sign would push the wrong way."""
    edited, mu = tensors(EDITED, MU)
    coupling_terms(edited, mu, torch.tensor(DIRECTION), 0.5, SCALE).sum().backward()
    assert mu.grad is None
    step = 1e-6
    numeric = [
        (plain(e + step, m, d, 0.5) - plain(e - step, m, d, 0.5)) / (2 * step)
        for e, m, d in zip(EDITED, MU, DIRECTION, strict=True)
    ]
    inner = [n for n, value in enumerate(numeric) if abs(value) in (0, 0.25) or abs(abs(value) - 0.25) < 1e-6]
    assert len(inner) >= 7, "only the kinks are left out"
    assert edited.grad[inner].tolist() == pytest.approx([numeric[n] for n in inner], abs=1e-6)
    assert edited.grad[3].item() == pytest.approx(0.25), "an added defect raised mu: down with it"


def test_what_does_not_fit_is_refused():
    edited, mu = tensors([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"mu_edited \[2\], mu \[1\]"):
        coupling_terms(edited, mu, torch.tensor([1, 1]), 0.5, SCALE)
    with pytest.raises(ValueError, match="margin is -1"):
        coupling_terms(mu, mu, torch.tensor([1]), -1.0, SCALE)
