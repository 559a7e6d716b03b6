"""Cached features of a frozen tower: the scores are those of the pictures, and nothing stale is read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.models.image_cache import ImageCache
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.training.composed import pool

PICTURES = noise_pictures(3, ((32, 32), (40, 24)))


def frozen(seed: int = 0) -> RewardModel:
    model = sharpen(tiny_model("llava", seed), 10)
    model.backbone.vision_tower.requires_grad_(False)
    return model


def cached(folder, model: RewardModel | None = None) -> RewardModel:
    model = model or frozen()
    model.image_cache = ImageCache(folder, model)
    return model


def scores(model: RewardModel):
    return model.score(PICTURES, ["a red circle", "a cross", "a red circle"]).probs


@pytest.fixture
def towers_calls(monkeypatch) -> list[int]:
    """Images of every pass of a CLIP tower from now on."""
    from transformers import CLIPVisionModel

    seen, whole = [], CLIPVisionModel.forward

    def forward(self, pixel_values, **options):
        seen.append(len(pixel_values))
        return whole(self, pixel_values, **options)

    monkeypatch.setattr(CLIPVisionModel, "forward", forward)
    return seen


@pytest.mark.parametrize("size", [1, 2])
def test_scores_are_those_of_the_pictures_and_the_tower_sees_each_once(tmp_path, towers_calls, size):
    plain, model = frozen(), frozen()
    for each in (plain, model):
        pool(each, size)
    wanted = scores(plain)
    cached(tmp_path, model)
    towers_calls.clear()
    for _ in range(2):
        torch.testing.assert_close(scores(model), wanted, atol=1e-6, rtol=1e-5)
    assert towers_calls == [1, 1, 1]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_another_object_with_the_same_tower_reads_what_is_there(tmp_path, towers_calls):
    wanted = scores(cached(tmp_path))
    other = cached(tmp_path)
    towers_calls.clear()
    assert torch.equal(scores(other), wanted) and not towers_calls


def _other_weights(model):
    with torch.no_grad():
        next(iter(model.backbone.vision_tower.parameters()))[0] += 1e-3


def _pooled(model):
    pool(model, 2)


def _lower_resolution(model):
    model.resolution = ResolutionPolicy(longest_side=16)


def _another_layer(model):
    model.backbone.base.config.vision_feature_layer = -1


def _class_token_too(model):
    config = model.backbone.base.config
    config.vision_feature_select_strategy = {"default": "full", "full": "default"}[
        config.vision_feature_select_strategy
    ]


def _other_tower(model):
    """The weights do not say it."""
    model.backbone.base.config.vision_config.hidden_act = "relu"


def _other_colours(model):
    from dataclasses import replace

    model.layout = replace(model.layout, mean=(0.4, 0.5, 0.5))


def _half(model):
    model.to(torch.bfloat16)


@pytest.mark.parametrize(
    "change",
    [
        _other_weights,
        _pooled,
        _lower_resolution,
        _another_layer,
        _class_token_too,
        _other_tower,
        _other_colours,
        _half,
    ],
)
def test_whatever_features_depend_on_has_a_folder_of_its_own(tmp_path, change):
    model = frozen()
    change(model)
    assert ImageCache(tmp_path, model).folder != ImageCache(tmp_path, frozen()).folder


def test_the_language_model_and_the_rubric_do_not_matter(tmp_path):
    model = frozen()
    with torch.no_grad():
        model.backbone.base.lm_head.weight.add_(1)
    assert ImageCache(tmp_path, model).folder == ImageCache(tmp_path, frozen()).folder


def test_files_are_known_by_their_content(tmp_path):
    cache, model = ImageCache(tmp_path / "cache", frozen()), frozen()
    PICTURES[0].save(tmp_path / "one.png")
    first = cache.features(model, str(tmp_path / "one.png"))
    (tmp_path / "one.png").rename(tmp_path / "renamed.png")
    assert torch.equal(cache.features(model, str(tmp_path / "renamed.png")), first)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    PICTURES[2].save(tmp_path / "one.png")
    assert not torch.equal(cache.features(model, str(tmp_path / "one.png")), first)


def test_the_mirror_image_has_features_of_its_own(tmp_path):
    cache, model = ImageCache(tmp_path, frozen()), frozen()
    turned = PICTURES[0].transpose(0)  # left and right change places
    for _ in range(2):
        torch.testing.assert_close(
            cache.features(model, PICTURES[0], mirrored=True), cache.features(model, turned), atol=1e-5, rtol=1e-4
        )
    assert not torch.allclose(cache.features(model, PICTURES[0]), cache.features(model, turned), atol=1e-2)


def test_the_tower_drops_nothing_out_while_its_model_is_trained(tmp_path):
    def made(name: str, training: bool):
        model = frozen()
        for module in model.backbone.vision_tower.modules():
            if hasattr(module, "dropout"):
                module.dropout = 0.5
        model.backbone.train(training)
        found = ImageCache(tmp_path / name, model).features(model, PICTURES[0])
        assert model.backbone.vision_tower.training == training
        return found

    assert torch.equal(made("training", True), made("evaluating", False))


def test_arrays_are_not_kept(tmp_path):
    model = cached(tmp_path)
    batch = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.score(batch, "a cross").probs, frozen().score(batch, "a cross").probs)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_damaged_file_is_named(tmp_path):
    model = cached(tmp_path)
    scores(model)
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InputError, match=f"{file.name} is damaged.*delete it"):
        scores(model)


def test_a_tower_that_is_trained_is_refused(tmp_path):
    with pytest.raises(InputError, match="this one is trained; set model.freeze_vision"):
        ImageCache(tmp_path, tiny_model("llava"))


def test_models_of_another_type_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no projector"):
        ImageCache(tmp_path, tiny_model("qwen3_5").requires_grad_(False))


@pytest.mark.parametrize(
    "planted",
    [torch.full((4, 32), torch.nan), torch.zeros(3, 32), torch.zeros(4, 5), torch.zeros(4), torch.zeros(4, 32).int()],
)
def test_a_file_of_something_else_is_named(tmp_path, planted):
    model = cached(tmp_path)
    scores(model)
    file = next(tmp_path.rglob("*.safetensors"))
    good = load_file(file)["features"]
    if planted.isnan().any() or not planted.is_floating_point():
        planted = planted.flatten()[0].expand(good.shape).contiguous()
    save_file({"features": planted}, file)
    with pytest.raises(InputError, match=f"{file.name} is damaged.*expected finite numbers.*delete it"):
        scores(model)
