"""Pretraining of the world's generator, a few steps of it, and its tokenizer."""

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from zreward.world.drawing import DrawingConfig, generator_scene, pretrain_generator
from zreward.world.generator import LONGEST, load_generator, make_prompt_tokenizer
from zreward.world.grammar import sample_prompts

CONFIG = DrawingConfig(scenes=48, batch_size=8, autoencoder_steps=6, steps=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    pretrain_generator(CONFIG, folder)
    return folder


def test_a_pretrained_generator_loads_and_draws(folder):
    pipeline = load_generator(folder)
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(["a large red circle"] * 2, num_inference_steps=2, guidance_scale=2.0, output_type="pt").images
    assert pictures.shape == (2, 3, 32, 32) and torch.isfinite(pictures).all()
    assert next(pipeline.unet.parameters()).dtype == torch.float32
    stored = json.loads((folder / "pretraining.json").read_text())
    assert stored["config"]["scenes"] == 48 and all(stored["losses"].values())


def test_it_fits_into_four_megabytes(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 4e6


def test_pretraining_repeats_itself_and_depends_on_its_seed(folder, tmp_path):
    def weights(place):
        return load_file(place / "unet" / "diffusion_pytorch_model.safetensors")

    pretrain_generator(CONFIG, tmp_path / "again")
    pretrain_generator(replace(CONFIG, seed=1), tmp_path / "other")
    first, again, other = weights(folder), weights(tmp_path / "again"), weights(tmp_path / "other")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv_in.weight"], other["conv_in.weight"])


def test_an_average_generators_scenes_have_defects_but_are_seldom_harsh():
    rng = random.Random(3)
    scenes = [generator_scene(rng, calm=0.8) for _ in range(400)]
    harsh = sum(scene.harsh for scene in scenes) / len(scenes)
    assert 0.01 < harsh < 0.15
    assert sum(bool(scene.defects("alignment")) for scene in scenes) / len(scenes) > 0.5


def test_every_word_of_a_prompt_is_a_token_and_every_prompt_fits():
    tokenizer = make_prompt_tokenizer()
    for prompt in sample_prompts(200, random.Random(0)):
        ids = tokenizer(prompt.text).input_ids
        assert len(ids) == len(prompt.text.split()) + 2 <= LONGEST
        assert tokenizer.unk_token_id not in ids
