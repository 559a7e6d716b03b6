"""How much score is gained by changes that nobody sees?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zreward.audit.attack import EPSILON, Scorer, climb, gradients
from zreward.audit.findings import Found, Row, Shown
from zreward.audit.subject import Array, Subject, evenly
from zreward.audit.thresholds import SensitivityLimits
from zreward.models.pixels import to_image, to_pixels

MOST = 16
"""Pictures: a search costs some ten times a score."""
SHOWN = 16  # how much the page enlarges what was changed


def sensitivity(subject: Subject, limits: SensitivityLimits) -> Found:
    """The norm of mu's gradient per dimension, and what a search within 4/255 gains."""
    numbers = evenly(len(subject.images), MOST)
    found = Found(
        "sensitivity",
        "Changes that nobody sees",
        f"Of {len(numbers)} pictures: the norm of the score's gradient (points for a change of all pixels by a root mean square "
        "of 1/255, in the worst direction), and the points that five steps of projected gradient ascent gain when no pixel "
        "changes by more than 4/255. Search in a generator's latent space is left out.",
    )
    images, prompts = [subject.images[n] for n in numbers], [subject.prompts[n] for n in numbers]
    for d, name in enumerate(subject.dimensions):
        changed, slope = _search(subject, images, prompts, name)
        gains = subject.score(changed, prompts)[:, d] - subject.clean[numbers, d]
        found.rows.append(_row(name, gains, slope, limits))
        best = int(gains.argmax())
        text = (
            f"{subject.clean[numbers[best], d] + 1:.2f}, then {subject.clean[numbers[best], d] + gains[best] + 1:.2f}"
        )
        found.shown.append(
            Shown([images[best], changed[best], _difference(images[best], changed[best])], name, f"gained most: {text}")
        )
    return found


def _search(
    subject: Subject, images: Sequence[Image.Image], prompts: Sequence[str], name: str
) -> tuple[list[Image.Image], Array]:
    """The changed pictures, and each one's gradient norm in points per root mean square of 1/255. One size at a time."""
    model, changed, slopes = subject.model, list(images), np.zeros(len(images))
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, image in enumerate(images):
        alike[image.size].append(n)
    for numbers in alike.values():
        for start in range(0, len(numbers), subject.batch_size):
            some = numbers[start : start + subject.batch_size]
            pixels = torch.stack([to_pixels(images[n]) for n in some])
            score = _scorer(subject, [prompts[n] for n in some], name)
            norms = gradients(score, pixels).double().flatten(1).norm(dim=1) * pixels[0].numel() ** 0.5 / 255
            slopes[some] = norms.numpy() * subject.stretch
            for n, better in zip(some, climb(score, pixels), strict=True):
                changed[n] = to_image(better)
    model.zero_grad(set_to_none=True)
    return changed, slopes


def _scorer(subject: Subject, prompts: Sequence[str], name: str) -> Scorer:
    def score(pixels: Tensor) -> Tensor:
        return subject.model(pixels, list(prompts), [name]).mean[:, 0].cpu()

    return score


def _row(name: str, gains: Array, slope: Array, limits: SensitivityLimits) -> Row:
    figures = {
        "gain": float(gains.mean()),
        "gain_p95": float(np.quantile(gains, 0.95)),
        "gradient": float(slope.mean()),
    }
    verdict = f"gains {figures['gain']:.2f} points on average"
    if limits.gain is not None and figures["gain"] > limits.gain:
        return Row("search within 4/255", name, figures, f"{verdict} (at most {limits.gain:g})", True)
    return Row("search within 4/255", name, figures, verdict)


def _difference(before: Image.Image, after: Image.Image) -> Image.Image:
    """What was changed, enlarged around grey."""
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    assert np.abs(change).max() <= EPSILON * 255 + 0.5
    return Image.fromarray(np.clip(128 + SHOWN * change, 0, 255).astype(np.uint8))
