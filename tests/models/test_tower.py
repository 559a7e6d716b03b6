"""Pooled image tokens: the means of squares of patches, other tokens as they are; the same after saving, copying, adapting."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.models.checkpoint import META_FILE
from zreward.models.reward_model import RewardModel
from zreward.models.tower import fit_projector, pool_images, pooled, projected, tower_features
from zreward.publishing.export import export
from zreward.training.composed import pool


def by_hand(features, side, size):
    """A plain loop; where `size` does not divide the side, the windows of torch's adaptive pooling."""
    extra, count = len(features) - side * side, -(-side // size)
    rows = [features[i] for i in range(extra)]
    spans = [range(k * side // count, -(-(k + 1) * side // count)) for k in range(count)]
    for down in spans:
        for across in spans:
            cells = [features[extra + y * side + x] for y in down for x in across]
            rows.append(sum(cells) / len(cells))
    return torch.stack(rows)


@pytest.mark.parametrize(("side", "size", "extra"), [(4, 2, 0), (4, 2, 1), (4, 4, 5), (5, 2, 1), (14, 4, 1), (3, 3, 0)])
def test_every_square_becomes_its_mean(side, size, extra):
    torch.manual_seed(0)
    features = torch.randn(2, extra + side * side, 3, dtype=torch.float64)
    wanted = torch.stack([by_hand(one, side, size) for one in features])
    torch.testing.assert_close(pooled(features, side, size), wanted)


def test_what_was_pooled_before_stays():
    features = torch.randn(1, 5, 3)
    assert pooled(features, 4, 2) is features
    assert pooled(torch.ones(1, 17, 3), 4, 1).shape == (1, 17, 3)


@pytest.fixture
def model() -> RewardModel:
    model = sharpen(tiny_model("llava"), 10)
    pool(model, 2)
    return model


def scores(model):
    return model.score(noise_pictures(3), "a red circle").probs


def test_a_pooled_model_reads_fewer_tokens_and_answers_otherwise(model):
    whole = sharpen(tiny_model("llava"), 10)
    assert (whole.layout.tokens((1, 1, 1)), model.layout.tokens((1, 1, 1))) == (16, 4)
    assert not torch.allclose(scores(whole), scores(model), atol=1e-3)


def test_tower_and_projector_apart_are_the_model_itself(model):
    pixels = torch.cat([model.layout.patchify(model.open(picture))[0] for picture in noise_pictures(2)])
    base = model.backbone.base
    with torch.no_grad():
        features = tower_features(base, pixels)
        whole = base.model.get_image_features(pixels).pooler_output
    assert features.shape == (2, 4, 32)
    torch.testing.assert_close(torch.stack(projected(base, features).pooler_output), torch.stack(list(whole)))


def test_it_stays_pooled_when_saved_and_copied(model, tmp_path):
    wanted = scores(model)
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / META_FILE).read_text())["schema_version"] == 2  # older ones would not pool
    assert torch.equal(scores(RewardModel.from_pretrained(tmp_path / "saved")), wanted)
    assert torch.equal(scores(copy.deepcopy(model)), wanted)
    plain = tiny_model("llava")
    plain.save_pretrained(tmp_path / "plain")
    stored = json.loads((tmp_path / "plain" / META_FILE).read_text())
    assert stored["schema_version"] == 1 and "image_pool" not in stored


def test_an_adapter_pools_though_its_base_does_not(tmp_path):
    from peft import LoraConfig, get_peft_model

    sharpen(tiny_model("llava"), 10).save_pretrained(tmp_path / "base")
    model = RewardModel.from_pretrained(tmp_path / "base")
    pool(model, 2)
    model.backbone.model = get_peft_model(
        model.backbone.model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["multi_modal_projector"])
    )
    wanted = scores(model)
    model.save_pretrained(tmp_path / "adapter")
    assert torch.equal(scores(RewardModel.from_pretrained(tmp_path / "adapter")), wanted)


def test_a_trained_projector_beside_a_tower_of_half_precision(model):
    """As an adapter's `modules_to_save` has it: float32 weights are given bfloat16 states."""
    half = model.to(torch.bfloat16)
    half.backbone.base.model.multi_modal_projector.float()
    assert scores(half).isfinite().all()


@pytest.mark.parametrize("size", [0, 5])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(InputError, match=f"image_pool is {size}, expected 1 to 4"):
        pool_images(tiny_model("llava").backbone.base, size)


@pytest.mark.parametrize("stored", ["2", True, 0, 2.5])
def test_a_damaged_record_is_refused(tmp_path, stored):
    tiny_model("llava").save_pretrained(tmp_path / "model")
    for name in ("config.json", META_FILE):
        content = json.loads((tmp_path / "model" / name).read_text())
        (tmp_path / "model" / name).write_text(json.dumps(content | {"image_pool": stored}))
        with pytest.raises(InputError, match="image_pool is"):
            RewardModel.from_pretrained(tmp_path / "model")
        (tmp_path / "model" / name).write_text(json.dumps(content))


def test_models_of_another_type_are_refused():
    with pytest.raises(InputError, match="'qwen3_vl' has no projector.*expected a LLaVA-type model"):
        pool(tiny_model("qwen3_vl"), 2)


def test_programs_that_would_not_pool_get_no_export(model, tmp_path):
    with pytest.raises(InputError, match="the model pools image tokens.*zreward serve"):
        export(model, tmp_path / "out")
    pool(model, 1)
    export(model, tmp_path / "out")


def test_channels_of_very_different_size_count_alike_in_a_fitted_projector():
    torch.manual_seed(0)
    base = tiny_model("llava").backbone.base
    first = base.model.multi_modal_projector.linear_1
    spread = torch.logspace(-1, 1, first.weight.shape[1])
    fit_projector(base, 5 + spread * torch.randn(400, len(spread)))
    by_channel = (first.weight * spread).square().mean(0).sqrt()
    assert by_channel.max() < 2 * by_channel.min()
