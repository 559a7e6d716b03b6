"""Tiny pipelines of the families that are named in the guide, of diffusers' own classes, with random weights."""

import torch
from diffusers import (
    DDIMScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

from tests.generation.conftest import flow_scheduler, tiny_autoencoder, tiny_text_encoder, tiny_unet
from tests.tiny import tiny_prompt_tokenizer


def tiny_t5(d_model: int) -> T5EncoderModel:
    words = len(tiny_prompt_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=words, d_model=d_model, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0)
    )


def stable_diffusion_xl():
    first, tokenizer = tiny_text_encoder(CLIPTextModel)
    second, _ = tiny_text_encoder(CLIPTextModelWithProjection, projection_dim=16)
    unet = tiny_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
        transformer_layers_per_block=1,
    )
    return StableDiffusionXLPipeline(
        vae=tiny_autoencoder(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(timestep_spacing="trailing", clip_sample=False),
        add_watermarker=False,
    )


def stable_diffusion_3():
    encoders = [tiny_text_encoder(CLIPTextModelWithProjection, projection_dim=8)[0] for _ in range(2)]
    tokenizer = tiny_prompt_tokenizer()
    t5 = tiny_t5(d_model=32)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(),
        vae=tiny_autoencoder(),
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=t5,
        tokenizer_3=tokenizer,
    )


def flux():
    clip, tokenizer = tiny_text_encoder(CLIPTextModel)
    t5 = tiny_t5(d_model=16)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=flow_scheduler(),
        vae=tiny_autoencoder(),
        text_encoder=clip,
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=tokenizer,
        transformer=transformer,
    )


def z_image():
    tokenizer = tiny_prompt_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 32, 32],
    )
    return ZImagePipeline(
        scheduler=flow_scheduler(),
        vae=tiny_autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


# With the options of a small picture.
FAMILIES = {
    "stable diffusion xl": (stable_diffusion_xl, {"height": 16, "width": 16}),
    "stable diffusion 3": (stable_diffusion_3, {"height": 16, "width": 16, "max_sequence_length": 18}),
    "flux": (flux, {"height": 16, "width": 16, "max_sequence_length": 18}),
    "z-image": (z_image, {"height": 16, "width": 16, "max_sequence_length": 18}),
}


def build(family: str):
    torch.manual_seed(0)
    make, options = FAMILIES[family]
    pipeline = make()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, options
