"""The places of a pass's tokens, by a plain loop: padding counts nothing, images count by rows and columns where models do so."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from zreward.models.layouts import takes_grids
from zreward.models.passes import Images, _places
from zreward.models.rows import Row
from zreward.models.sharing import Part, share_rows

PROMPTS = ["a red circle", "a small blue cross left of a large green square", "a"]


def test_text_alone(family_model):
    part = Part(torch.ones(3, 4).long(), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]]))
    places = _places(family_model.backbone, part, None)
    assert places.min() >= 0, "a table of places has no row before the first"
    if takes_grids(family_model.backbone.base.model):
        assert places.shape == (3, 3, 4) and (places == places[0]).all()
        places = places[0]
    found = [row[real].tolist() for row, real in zip(places, part.mask.bool(), strict=True)]
    assert found == [[0, 1, 2, 3], [0, 1], [0, 1, 2]]


def prefixes(model, pictures) -> tuple[Part, Images]:
    """Of three pictures with prompts of unequal lengths: padded on the left."""
    inputs = model.collate(
        [model.open(picture) for picture in pictures[:3]],
        [Row((i,), text, "realism") for i, text in enumerate(PROMPTS)],
    )
    part = share_rows(inputs, model.backbone.image_token_id, kept=False, singly=True).prefix
    assert not part.mask[:, 0].all()
    return part, Images(None, inputs.grid)


def by_hand(ids: list[int], image: int, grid: tuple[int, int]) -> Tensor:
    """(3, T): text takes a place a token, an image as many as its longer side; its tokens differ by row and column."""
    places, at = [], 0
    for is_image, run in groupby(ids, key=lambda token: token == image):
        count = len(list(run))
        if is_image:
            places += [(at, at + row, at + column) for row in range(grid[0]) for column in range(grid[1])]
        else:
            places += [(at + n,) * 3 for n in range(count)]
        at += max(grid) if is_image else count
    return torch.tensor(places).T


def test_padded_rows_with_an_image_are_counted_as_if_alone(family_model, pictures):
    backbone = family_model.backbone
    part, images = prefixes(family_model, pictures)
    places = _places(backbone, part, images)
    for n, real in enumerate(part.mask.bool()):
        rows, columns = (images.grid[part.images[n, 0], 1:] // 2).tolist()  # two patches a side are one token
        expected = by_hand(part.ids[n, real].tolist(), backbone.image_token_id, (rows, columns))
        if not takes_grids(backbone.base.model):
            expected = torch.arange(int(real.sum()))
        assert torch.equal(places[..., n, real], expected)
