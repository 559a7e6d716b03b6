"""Drawing with a gradient: the pipeline's own pictures, and derivatives that finite differences confirm."""

import pytest
import torch

from tests.tiny import sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.generation import Aggregate, SamplingPlan, draw

PROMPTS, SEEDS = ["a large red circle", "a small blue cross"], [3, 4]


def own_pictures(pipeline, steps: int, **options):
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    return pipeline(PROMPTS, num_inference_steps=steps, generator=generators, output_type="pt", **options).images


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("plan", [SamplingPlan(4), SamplingPlan(4, 1), SamplingPlan(4, 4)])
def test_pictures_are_the_pipelines_own(pipeline, guidance, plan):
    drawn = draw(pipeline, PROMPTS, SEEDS, plan, guidance_scale=guidance)
    assert torch.equal(drawn.pixels.detach(), own_pictures(pipeline, 4, guidance_scale=guidance))
    assert len(drawn.calls) == plan.gradient_steps
    assert drawn.pixels.requires_grad == (plan.gradient_steps > 0)


def test_the_last_step_alone_is_enough_to_take_the_picture_early(pipeline):
    """Left-out steps: the picture is the one predicted at step 2 of 4, which is what DDIM makes of it in one jump."""
    stopped = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(4, 1, skipped=2), guidance_scale=1.0)
    assert len(stopped.calls) == 1
    latents = stopped.calls[0][0][0]
    pipeline.scheduler.set_timesteps(4)
    time = pipeline.scheduler.timesteps[1]
    with torch.no_grad():
        answer = stopped.calls[0][2][0]
        alpha = pipeline.scheduler.alphas_cumprod[time]
        clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * answer  # x_0 of a v-prediction
        expected = pipeline.vae.decode(clean / pipeline.vae.config.scaling_factor).sample * 0.5 + 0.5
    assert torch.allclose(stopped.pixels.detach(), expected.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    "plan", [SamplingPlan(3, 1), SamplingPlan(3, 2), SamplingPlan(3, 3), SamplingPlan(3, 1, skipped=1)]
)
def test_checkpointing_changes_no_gradient(pipeline, plan):
    def gradient(checkpointing: bool):
        pipeline.unet.zero_grad()
        draw(pipeline, PROMPTS, SEEDS, plan, checkpointing, guidance_scale=2.0).pixels.square().mean().backward()
        return torch.cat([p.grad.flatten() for p in pipeline.unet.parameters() if p.grad is not None])

    plain, recomputed = gradient(False), gradient(True)
    assert plain.norm() > 0
    assert torch.allclose(plain, recomputed, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3])
def test_checkpointing_keeps_one_blocks_activations_at_a_time(pipeline, steps):
    """In the backward pass every block is computed again just before its own gradient, not a whole step at once."""
    events: list[str] = []
    blocks = {
        "down": pipeline.unet.down_blocks[0].resnets[0],
        "up": pipeline.unet.up_blocks[-1].resnets[-1],
        "decoder": pipeline.vae.decoder.mid_block,
    }

    def note(name):
        def after(module, given, output):
            if output.requires_grad:
                output.register_hook(lambda gradient: events.append(f"{name} gradient"))

        return after

    handles = [module.register_forward_hook(note(name)) for name, module in blocks.items()]
    for name, module in blocks.items():  # a second pass ends before its forward hooks
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: events.append(f"{name} forward")))
    pixels = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, steps), checkpointing=True, guidance_scale=2.0).pixels
    events.clear()
    pixels.square().mean().backward()
    for handle in handles:
        handle.remove()
    assert events.count("down gradient") >= steps and "decoder forward" in events
    again = [i for i, event in enumerate(events) if event == "down forward"][-1]
    assert "up gradient" in events[:again]  # the later block is done before the earlier one is computed again
    assert not pipeline.unet.is_gradient_checkpointing and not pipeline.vae.is_gradient_checkpointing


def test_recorded_steps_without_a_gradient_hold_no_graph(pipeline):
    drawn = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(4), record=True, guidance_scale=2.0)
    traced = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(4, 4), guidance_scale=2.0)
    assert len(drawn.calls) == 4 and not drawn.pixels.requires_grad
    for (given, _, answer), (other, _, same) in zip(drawn.calls, traced.calls, strict=True):
        assert torch.equal(given[0], other[0]) and torch.equal(answer[0], same[0])
        assert same[0].grad_fn is not None and answer[0].grad_fn is None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_rewards_gradient_agrees_with_finite_differences(pipeline, checkpointing):
    """In float64, through student, decoder, two steps and guidance, along a random direction in weight space."""
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.double()
    student = sharpen(tiny_model()).double()
    aggregate = Aggregate("worst", weights={"alignment": 2.0, "realism": 1.0})

    def reward():
        with torch.random.fork_rng():
            drawn = draw(pipeline, PROMPTS, SEEDS, SamplingPlan(3, 3), checkpointing, guidance_scale=2.0)
        pixels = torch.nn.functional.interpolate(drawn.pixels, scale_factor=2.0)
        return aggregate(student(pixels, PROMPTS)).mean()

    weights = [p for p in pipeline.unet.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(reward(), weights)
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * p.detach().abs().mean() for p in weights]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)).item()
    values, size = [], 5e-4  # transformers' norms compute in float32 whatever the dtype: a smaller step drowns in that
    for sign in (1, -1):
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight.add_(sign * size * step)
            values.append(reward().item())
            for weight, step in zip(weights, direction, strict=True):
                weight.sub_(sign * size * step)
    assert slope == pytest.approx((values[0] - values[1]) / (2 * size), rel=1e-3)


def test_bad_calls_are_refused(pipeline):
    with pytest.raises(InputError, match="2 prompts and 1 seeds"):
        draw(pipeline, PROMPTS, [1], SamplingPlan(2))
    with pytest.raises(InputError, match="no more gradient steps"):
        SamplingPlan(2, 3)
    with pytest.raises(InputError, match="at least one step"):
        SamplingPlan(2, 0, skipped=2)
    from diffusers import HeunDiscreteScheduler

    pipeline.scheduler = HeunDiscreteScheduler()
    with pytest.raises(InputError, match="HeunDiscreteScheduler takes 2 predictions"):
        draw(pipeline, PROMPTS, SEEDS, SamplingPlan(2))
    pipeline.unet = None
    with pytest.raises(InputError, match="neither a unet nor a transformer"):
        draw(pipeline, PROMPTS, SEEDS, SamplingPlan(2))


def test_the_scheduler_and_denoiser_are_left_as_they_were(pipeline):
    before = pipeline.scheduler.step
    draw(pipeline, PROMPTS, SEEDS, SamplingPlan(2, 1), checkpointing=True)
    assert pipeline.scheduler.step == before
    assert "forward" not in vars(pipeline.unet) and "decode" not in vars(pipeline.vae)
    assert not pipeline.unet._forward_hooks
    assert torch.is_grad_enabled()
