"""Plans of a model of pretrained parts need the parts' configurations alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.parts import write_language, write_tower
from zreward.common.errors import InputError
from zreward.models.compose import ComposeSpec, compose
from zreward.models.reward_model import RewardModel
from zreward.planning.networks import network_of
from zreward.planning.shapes import shape_of


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_it_is_planned_as_what_would_be_composed(recipe_of, tmp_path, kind):
    vision, language = write_tower(kind, tmp_path / kind), write_language(tmp_path / "language")
    parts = {"vision": str(vision), "language": str(language), "class_token": True}
    parts |= {"vision_layers": 2, "layers": [1, 2], "language_layers": 2}
    recipe = recipe_of(model__name="compose", model__compose=parts, model__image_pool=2, model__rubric=None)
    for folder in (vision, language):
        (folder / "model.safetensors").rename(tmp_path / f"{folder.name}.kept")
    shape = shape_of(network_of(recipe))
    for folder in (vision, language):
        Path(tmp_path / f"{folder.name}.kept").rename(folder / "model.safetensors")
    model = RewardModel.from_pretrained(compose(ComposeSpec(**parts), tmp_path / "made", image_pool=2))
    more = 32 * (model.backbone.base.lm_head.out_features - 404)  # a row for the image's place, padded
    assert shape.parameters == sum(weight.numel() for weight in model.backbone.parameters()) - more
    assert shape.image_tokens == model.layout.tokens((1, 1, 1)) == 5


def test_parts_that_are_not_named_are_said(recipe_of):
    with pytest.raises(InputError, match="vision is None, language None"):
        network_of(recipe_of(model__name="compose"))
