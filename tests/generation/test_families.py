"""Every family of generators: its own pictures, one optimisation step of a LoRA, the gradient checked, early pictures."""

import pytest
import torch

from tests.generation.families import FAMILIES, build
from tests.tiny import sharpen, tiny_model
from zreward.generation import SamplingPlan, draw
from zreward.generation.adaptation import Adaptation, load_optimized
from zreward.generation.anchor import drift
from zreward.generation.recipe import GeneratorRecipe

PROMPTS, SEEDS = ["a large red circle", "a small blue cross"], [3, 4]
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_pictures_are_the_pipelines_own(family, guidance):
    pipeline, options = build(family)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    steps = {"num_inference_steps": 3, "guidance_scale": guidance}
    expected = pipeline(list(PROMPTS), generator=generators, output_type="pt", **steps, **options).images
    drawn = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 2), guidance_scale=guidance, **options)
    assert torch.equal(drawn.pixels.detach(), expected)
    assert drawn.pixels.requires_grad and len(drawn.calls) == 2


@each_family
@pytest.mark.parametrize("lora", [True, False])
def test_one_step_moves_the_trained_weights_and_nothing_else(family, lora):
    pipeline, options = build(family)
    adaptation = Adaptation(pipeline, GeneratorRecipe(lora_rank=2 if lora else None), decay=0.0)
    before = {
        f"{part}.{name}": value.detach().clone()
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.named_parameters()
    }
    student = sharpen(tiny_model()).requires_grad_(False)
    optimizer = torch.optim.SGD(adaptation.weights.values(), lr=0.1)
    drawn = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 2), checkpointing=True, guidance_scale=2.0, **options)
    with adaptation.frozen() as frozen:
        moved = drift(drawn.calls, frozen)
    assert moved.item() == pytest.approx(0, abs=1e-9)
    (-student(drawn.pixels.float(), PROMPTS).mean.mean() + moved).backward()
    gradients = [weight.grad for weight in adaptation.weights.values() if weight.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    optimizer.step()
    after = {
        f"{part}.{name}": value
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.named_parameters()
    }
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    denoiser = "unet" if getattr(pipeline, "unet", None) is not None else "transformer"
    assert changed and all(name.startswith(f"{denoiser}.") for name in changed)
    assert all("lora" in name for name in changed) == lora
    again = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 2), guidance_scale=2.0, **options)
    with adaptation.frozen() as frozen:
        assert drift(again.calls, frozen).item() > 0


@each_family
def test_checkpointing_changes_no_gradient(family):
    pipeline, options = build(family)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer

    def gradient(checkpointing: bool):
        denoiser.zero_grad()
        drawn = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 2), checkpointing, guidance_scale=2.0, **options)
        drawn.pixels.square().mean().backward()
        return torch.cat([p.grad.flatten() for p in denoiser.parameters() if p.grad is not None])

    plain, recomputed = gradient(False), gradient(True)
    assert plain.norm() > 0 and torch.allclose(plain, recomputed, rtol=1e-6, atol=1e-9)


@each_family
def test_the_last_steps_may_be_left_out(family):
    """With every step but the first left out, the picture is what the first step predicts."""
    pipeline, options = build(family)
    early = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 1, skipped=2), guidance_scale=0.0, **options)
    whole = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3), guidance_scale=0.0, **options)
    assert early.pixels.requires_grad and len(early.calls) == 1
    assert not torch.equal(early.pixels.detach(), whole.pixels)
    one = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(1), guidance_scale=0.0, **options)
    assert torch.allclose(early.pixels.detach(), one.pixels, atol=1e-4)


@each_family
def test_a_saved_lora_draws_the_same_pictures(family, tmp_path):
    from zreward.common.config import config_from_dict
    from zreward.generation.recipe import OptimizeRecipe

    pipeline, options = build(family)
    pipeline.save_pretrained(tmp_path / "generator")
    raw = {"student": "s", "out": str(tmp_path), "prompts": "p", "held_out": "h"}
    raw["generator"] = {"name": str(tmp_path / "generator"), "lora_rank": 2}
    recipe = config_from_dict(OptimizeRecipe, raw, "test")
    adaptation = Adaptation(pipeline, recipe.generator, decay=0.0)
    with torch.no_grad():
        for name, weight in adaptation.weights.items():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    adaptation.update_average()
    adaptation.save(tmp_path / "model")
    plan = SamplingPlan(2)
    expected = draw(pipeline, PROMPTS, SEEDS, plan, guidance_scale=2.0, **options).pixels
    with adaptation.frozen_pipeline() as frozen:
        assert not torch.allclose(draw(frozen, PROMPTS, SEEDS, plan, guidance_scale=2.0, **options).pixels, expected)
    loaded = load_optimized(recipe, "cpu")
    found = draw(loaded, PROMPTS, SEEDS, plan, guidance_scale=2.0, **options).pixels
    assert torch.allclose(found, expected, atol=1e-4)
