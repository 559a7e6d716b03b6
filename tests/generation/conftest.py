"""Tiny diffusers pipelines of the real classes, with random weights."""

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from tests.tiny import tiny_prompt_tokenizer


def tiny_autoencoder(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        mid_block_add_attention=False,
        shift_factor=0.1,
    )


def tiny_text_encoder(cls=CLIPTextModel, **more):
    tokenizer = tiny_prompt_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **more,
    )
    return cls(config).eval(), tokenizer


def tiny_unet(**more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        **{"cross_attention_dim": 16} | more,
    )


@pytest.fixture
def pipeline() -> StableDiffusionPipeline:
    return stable_diffusion()


def stable_diffusion() -> StableDiffusionPipeline:
    """Stable Diffusion at 16 x 16 pixels, DDIM, v-prediction."""
    torch.manual_seed(0)
    text_encoder, tokenizer = tiny_text_encoder()
    pipeline = StableDiffusionPipeline(
        vae=tiny_autoencoder().eval(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=tiny_unet().eval(),
        scheduler=DDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=1.0)
