"""The reward of a generator's pictures as plain loops over pictures, denoising steps and dimensions. Shares no code with the
package: Stable Diffusion is drawn with DDIM's own equations, the judge is asked one question at a time.

    loss = -mean A(mu) + anchor * sum |eps - eps_0|^2 / sum |eps_0|^2
"""

import torch

from tests.plain_model import plain_pass


def plain_loss(pipeline, denoiser, frozen, judge, prompts, seeds, plan, o):
    """`o`: guidance, anchor, dimensions, and `aggregate`, from a picture's distributions to a number; with `compares` also from
    those of the frozen generator's picture."""
    rewards, moved, size = [], 0.0, 0.0
    for prompt, seed in zip(prompts, seeds, strict=True):
        picture, visited = drawn(pipeline, denoiser, prompt, seed, plan, o.guidance)
        scores = [judged(judge, picture, prompt, o.dimensions)]
        if o.compares:
            with torch.no_grad():
                picture, _ = drawn(pipeline, frozen, prompt, seed, plan, o.guidance)
                scores.append(judged(judge, picture, prompt, o.dimensions))
        rewards.append(o.aggregate(*scores))
        for place, answer in visited:
            with torch.no_grad():
                before = frozen(*place).sample
            moved, size = moved + (answer - before).square().sum(), size + before.square().sum()
    return -sum(rewards) / len(rewards) + o.anchor * moved / size


def drawn(pipeline, denoiser, prompt, seed, plan, guidance):
    """A picture (3, H, W), and what the denoiser was asked (detached) and answered in the steps with a gradient."""
    scheduler, visited = pipeline.scheduler, []
    scheduler.set_timesteps(plan.steps)
    texts = ["", prompt] if guidance > 1 else [prompt]
    ids = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    meaning = pipeline.text_encoder(ids)[0]
    shape = (1, denoiser.config.in_channels, denoiser.config.sample_size, denoiser.config.sample_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    last = plan.steps - plan.skipped
    for number, t in enumerate(scheduler.timesteps[:last], 1):
        with torch.set_grad_enabled(number > last - plan.gradient_steps):
            place = torch.cat([x] * len(texts)), t, meaning
            answer = denoiser(*place).sample
            if torch.is_grad_enabled():
                visited.append(((place[0].detach(), t, meaning), answer))
            v = answer[:1] + guidance * (answer[1:] - answer[:1]) if guidance > 1 else answer
            a, before = scheduler.alphas_cumprod[t], t - 1000 // plan.steps
            clean, noise = a**0.5 * x - (1 - a) ** 0.5 * v, a**0.5 * v + (1 - a) ** 0.5 * x
            a = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
            x = clean if plan.skipped and number == last else a**0.5 * clean + (1 - a) ** 0.5 * noise
    with torch.set_grad_enabled(plan.gradient_steps > 0):
        picture = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample[0]
    return (picture / 2 + 0.5).clamp(0, 1), visited


def judged(judge, picture, prompt, dimensions):
    """Probabilities of the bins, {dimension: (S,)}."""
    found = {}
    for name in dimensions:
        logits, _ = plain_pass(judge, judge.backbone.model, [picture], prompt, name, [], reasoning=False)
        found[name] = logits[-1, judge.encoder.label_ids].softmax(-1)
    return found


def expected(probs):
    return sum((1 + k / 2) * p for k, p in enumerate(probs))


def mean_score(scores):
    return sum(expected(probs) for probs in scores.values()) / len(scores)
