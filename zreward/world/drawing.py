"""Pretrain the world's generator on prompts and pictures, with the defects of an average generator.

First the autoencoder learns to keep pictures, then the text encoder and the UNet learn to draw their latents (predicting
v, with one prompt in ten left out for classifier-free guidance). Weights are averaged over the last steps and saved in
half precision.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from zreward.common.files import atomic_folder
from zreward.world.generator import make_generator
from zreward.world.grammar import sample_prompt
from zreward.world.renderer import render_array
from zreward.world.scenes import Scene, sample_scene


@dataclass(frozen=True)
class DrawingConfig:
    scenes: int = 24000  # rendered once, drawn from again and again
    calm: float = 0.8  # of the harsh backgrounds, the share that is made calm: an average generator seldom draws them
    batch_size: int = 64
    autoencoder_steps: int = 1500
    autoencoder_rate: float = 2e-3  # peak, after a linear warm-up of 100 steps; cosine to 1 %, as the next one
    kl: float = 1e-6  # weight of the latents' pull to a standard normal
    steps: int = 6000
    rate: float = 1e-3
    unprompted: float = 0.1  # share of pictures drawn without their prompt
    average: float = 0.999  # decay of the averaged weights
    seed: int = 0


def generator_scene(rng: random.Random, calm: float) -> Scene:
    """A scene with the world's defects, most harsh backgrounds made calm."""
    scene = sample_scene(sample_prompt(rng), rng)
    return replace(scene, harsh=scene.harsh and rng.random() >= calm)


def pretrain_generator(config: DrawingConfig, out: Path) -> Any:
    """Train a generator from random weights and save it to `out`, with its losses in pretraining.json; returns it."""
    rng = random.Random(config.seed)
    scenes = [generator_scene(rng, config.calm) for _ in range(config.scenes)]
    pixels = torch.stack([_pixels(scene) for scene in tqdm(scenes, desc="scenes", unit="scene")])
    pipeline: Any = make_generator(config.seed)
    losses = {"autoencoder": _learn_to_keep(pipeline.vae, pixels, config)}
    with torch.no_grad():
        latents = torch.cat([pipeline.vae.encode(_signed(part)).latent_dist.mean for part in pixels.split(256)])
    pipeline.vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    latents *= pipeline.vae.config.scaling_factor
    losses["drawing"] = _learn_to_draw(pipeline, latents, [scene.prompt.text for scene in scenes], config)
    with atomic_folder(out) as made:
        pipeline.to(torch.float16).save_pretrained(made)
        (made / "pretraining.json").write_text(
            json.dumps({"config": asdict(config), "losses": losses}, indent=1) + "\n"
        )
    return pipeline.to(torch.float32)


def _pixels(scene: Scene) -> Tensor:
    return (torch.from_numpy(render_array(scene)).permute(2, 0, 1) * 255).round().to(torch.uint8)


def _signed(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def _learn_to_keep(autoencoder: Any, pixels: Tensor, config: DrawingConfig) -> list[float]:
    def loss(rows: Tensor) -> Tensor:
        target = _signed(pixels[rows])
        posterior = autoencoder.encode(target).latent_dist
        kept = autoencoder.decode(posterior.sample()).sample
        return F.mse_loss(kept, target) + 0.5 * F.l1_loss(kept, target) + config.kl * posterior.kl().mean()

    return _train([autoencoder], loss, len(pixels), config.autoencoder_steps, config.autoencoder_rate, config)


def _learn_to_draw(pipeline: Any, latents: Tensor, prompts: list[str], config: DrawingConfig) -> list[float]:
    scheduler, tokens = (
        pipeline.scheduler,
        pipeline.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids,
    )
    nothing = pipeline.tokenizer([""], padding="max_length", return_tensors="pt").input_ids[0]

    def loss(rows: Tensor) -> Tensor:
        ids = tokens[rows].clone()
        ids[torch.rand(len(rows)) < config.unprompted] = nothing
        clean, noise = latents[rows], torch.randn_like(latents[rows])
        times = torch.randint(0, scheduler.config.num_train_timesteps, (len(rows),))
        noisy, target = scheduler.add_noise(clean, noise, times), scheduler.get_velocity(clean, noise, times)
        return F.mse_loss(pipeline.unet(noisy, times, pipeline.text_encoder(ids)[0]).sample, target)

    return _train([pipeline.unet, pipeline.text_encoder], loss, len(latents), config.steps, config.rate, config)


def _train(
    modules: list[nn.Module], loss_of: Any, rows: int, steps: int, rate: float, config: DrawingConfig
) -> list[float]:
    """Minimise a loss over random rows; the modules end with their averaged weights. Returns every hundredth loss."""
    whole = nn.ModuleList(modules)
    averaged = torch.optim.swa_utils.AveragedModel(
        whole, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average)
    )
    optimizer = torch.optim.AdamW(whole.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1, (n + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * min(1, n / steps)))
    )
    torch.manual_seed(config.seed)
    losses: list[float] = []
    with tqdm(range(steps), desc=type(modules[0]).__name__, unit="step") as bar:
        for step in bar:
            loss = loss_of(torch.randint(0, rows, (config.batch_size,)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(whole)
            if step % 100 == 99 or step == steps - 1:
                losses.append(round(loss.item(), 5))
                bar.set_postfix(loss=losses[-1])
    whole.load_state_dict(averaged.module.state_dict())
    return losses
