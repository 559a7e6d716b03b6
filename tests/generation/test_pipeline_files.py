"""Generators: nothing of a pipeline's folder is run, and what is damaged ends in one message."""

from __future__ import annotations

import json
import os

import pytest
import torch

from tests.generation.conftest import stable_diffusion
from zreward.common.errors import InputError
from zreward.generation.adaptation import load_pipeline
from zreward.generation.recipe import GeneratorRecipe


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    import shutil

    return shutil.copytree(saved, tmp_path / "tiny")


def index(**changes):
    def change(folder):
        file = folder / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def code(place):
    def change(folder):
        (folder / place).write_text(f"open({str(folder / 'RAN')!r}, 'w').write('x')\nclass Evil: pass\n")

    return change


def auto_map(folder):
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModel": "evil.M"}}))


def pickles(folder):
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")


CASES = {
    "a pipeline of its own": ([code("evil.py"), index(_class_name=["evil", "Evil"])], "code of its own"),
    "a class of its own": ([index(_class_name=["evil", "Evil"])], "which is no pipeline of the installed diffusers"),
    "a part of its own": ([code("unet/evil.py"), index(unet=["evil", "Evil"])], "code of its own"),
    "a part of another library": ([index(unet=["os", "system"])], "unet comes from 'os'"),
    "a part that is no pair": ([index(unet=["diffusers"])], "expected .library, class."),
    "a part outside": ([index(**{"../unet": ["diffusers", "UNet2DConditionModel"]})], "expected .library, class."),
    "auto_map": ([auto_map], "auto_map"),
    "pickles": ([pickles], "safetensors only"),
    "cut weights": (
        [lambda folder: os.truncate(next((folder / "unet").glob("*.safetensors")), 2_000)],
        "is cut off",
    ),
    "no index": ([lambda folder: (folder / "model_index.json").unlink()], "no model_index.json"),
    "a pipe": (
        [lambda folder: ((folder / "unet" / "config.json").unlink(), os.mkfifo(folder / "unet" / "config.json"))],
        "is a pipe",
    ),
    "a lost part": ([lambda folder: (folder / "unet" / "config.json").unlink()], "cannot be loaded as a text-to-image"),
}


@pytest.mark.parametrize(("changes", "message"), CASES.values(), ids=CASES)
def test_what_is_hostile_or_damaged_is_refused(folder, changes, message):
    for change in changes:
        change(folder)
    with pytest.raises(InputError, match=message):
        load_pipeline(GeneratorRecipe(name=str(folder)), "cpu")
    assert not (folder / "RAN").exists()


def test_a_sound_pipeline_is_loaded(folder):
    assert load_pipeline(GeneratorRecipe(name=str(folder)), "cpu").unet is not None
