"""The world's text-to-image generator: a tiny Stable Diffusion pipeline of diffusers' own classes.

`make_generator` builds it from random weights, `load_generator` reads the shipped ones (see `zreward.world.drawing` for how
they came to be). Any program that knows diffusers can load the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zreward.common.errors import InputError
from zreward.world.grammar import vocabulary

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

NAME = "world:generator"  # in recipes
GENERATOR = Path(__file__).parent / "weights" / "generator"
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
LONGEST = 18  # tokens: fifteen words, start and end
LATENT_SIDE, LATENT_CHANNELS, TEXT_WIDTH = 16, 4, 64


def make_prompt_tokenizer() -> Any:
    """One token for every word of a prompt; padded to `LONGEST`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *vocabulary()]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_max_length=LONGEST,
    )


def make_generator(seed: int = 0) -> StableDiffusionPipeline:
    """An untrained generator: autoencoder (32 x 32 pixels, 16 x 16 latents), text encoder, conditional UNet, DDIM."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = make_prompt_tokenizer()
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(24, 32),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=2 * LATENT_SIDE,
        mid_block_add_attention=False,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LONGEST,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,  # heads: diffusers keeps the name for compatibility
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_generator(path: str | Path = GENERATOR) -> StableDiffusionPipeline:
    """The shipped generator, in float32."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(
        path, torch_dtype=torch.float32, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )


def shipped(name: str) -> Path:
    """Where world:generator leads to: the entry point of the prefix `world`."""
    if name != "generator":
        raise InputError(f"world:{name} is no generator of the built-in world; expected world:generator")
    return GENERATOR
