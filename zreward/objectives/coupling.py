"""Coupling of score and reasoning: after an edited trace, mu has to move the way the edit says.

A trace rho of a picture gives mu, an edit of it rho' gives mu'. The edit says in which direction d the score belongs: -1 where
a defect was made worse or added, +1 where it was made milder or removed, 0 where there was nothing to edit. One term each:

    l = max(0, m - d (mu' - sg(mu))) / R        m = min(margin, room / 2),  room = mu - S_min for d = -1, S_max - mu for d = +1

and l = 0 for d = 0. R = S_max - S_min is the unit, as in GDSO's losses. Not in the paper, which names the weak coupling as its
own limitation. mu is held fixed: the label of the picture teaches it, and rho and rho' need not share a micro-batch or a rank.
Near an end of the scale there is no room for the whole margin: half of what is left is asked for.

Shapes: `...` are sequences.
"""

from __future__ import annotations

from torch import Tensor

from zreward.distribution import ScoreScale


def coupling_terms(mu_edited: Tensor, mu: Tensor, direction: Tensor, margin: float, scale: ScoreScale) -> Tensor:
    """One term per sequence; their mean is the loss.

    Args:
        mu_edited: expected scores after the edited traces [...].
        mu: after the original ones [...]; carries no gradient.
        direction: of each edit [...]: -1, +1, or 0 where a sequence has none.
        margin: how far mu has to move, in score points.
        scale: the rubric's scale.

    Returns:
        Terms [...], 0 where there is no edit.

    Raises:
        ValueError: shapes differ, a margin below 0.
    """
    if not mu_edited.shape == mu.shape == direction.shape:
        raise ValueError(
            f"coupling: mu_edited {list(mu_edited.shape)}, mu {list(mu.shape)} and direction {list(direction.shape)}; "
            "expected one shape"
        )
    if not margin >= 0:
        raise ValueError(f"coupling: margin is {margin}, expected 0 or more score points")
    mu, direction = mu.detach(), direction.to(mu_edited)
    room = (mu - scale.min).where(direction < 0, scale.max - mu)
    wanted = (room / 2).clamp(min=0, max=margin)
    return (wanted - direction * (mu_edited - mu)).clamp(min=0) * direction.abs() / scale.range
