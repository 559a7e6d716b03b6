"""Writes `written/` with the code of an older commit; README.md has the command.

python write.py OUT RECIPES  everything but the studio's project, which write_studio.py writes; RECIPES are copied
python write.py --kill RUN   in OUT: start one run, and die in the middle of it (kill -9)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image, ImageDraw
from transformers.trainer_callback import CallbackHandler
from zreward.config import config_from_dict, load_config

from zreward import bulk
from zreward.data import load_records
from zreward.generation import optimize as optimizing
from zreward.generation.recipe import OptimizeRecipe
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.rubric import Dimension, Rubric
from zreward.training import targets
from zreward.training.recipe import Recipe
from zreward.training.run import train

COLOURS = ("red", "blue", "green", "teal")
SIZES = ScratchSpec(
    hidden_size=8,
    intermediate_size=12,
    heads=1,
    layers=2,
    linear_layers=1,
    vision_hidden_size=8,
    vision_intermediate_size=12,
    vision_heads=1,
    vision_layers=1,
    patch_size=4,
    positions=16,
)
NAMELESS = """\
# Not of the commit's recipes folder, but valid there: the generator's name had the built-in world's as its default.
student: runs/demo/models/student
out: runs/refl
prompts: world:40
held_out: world:12
generator:
  steps: 12
final:
  prompts: 6
  judge: oracle
"""
SHARD = 4  # rows of `score --data`
CHANGED = 1_700_000_000  # seconds: when records.jsonl was changed, which `score --data` looks at
LABELLING = targets.LabelOptions(traces=2, shard_size=4)
BASIC = {
    "data": {"train": "records.jsonl"},
    "optimizer": {"steps": 4, "batch_size": 2, "learning_rate": 3e-3, "warmup_steps": 1},
    "save_every": 2,
    "keep_checkpoints": 1,
    "trainer": {"use_cpu": True},
}
RECIPES = {
    "sft": BASIC | {"method": "sft", "model": {"name": "base"}},
    "gdso": BASIC
    | {
        "method": "gdso",
        "model": {"name": "base", "lora_rank": 2, "lora_alpha": 4, "freeze_vision": True},
        "rollout": {"group_size": 2, "updates_per_rollout": 2},
    },
}
OPTIMIZE = {
    "student": "base",
    "prompts": "prompts.txt",
    "held_out": "held_out.txt",
    "generator": {"name": "generator", "steps": 3, "lora_rank": 1, "lora_alpha": 4, "lora_targets": ["to_q", "to_v"]},
    "gradient": {"steps": [1, 2]},
    "optimizer": {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 1, "average": 0.5},
    "guards": {"every": 2, "prompts": 2, "min_diversity": 0.0, "max_drift": 9.0, "max_dimension_fall": 9.0},
    "save_every": 2,
}


def write_all() -> None:
    nameless = Path("recipes/optimize-without-generator.yaml")
    nameless.write_text(NAMELESS)
    assert load_config(OptimizeRecipe, nameless).generator.name == "world:generator"
    _records()
    torch.manual_seed(0)
    make_scratch("qwen3_5", SIZES, [f"a {colour} circle" for colour in COLOURS], _rubric(), None, 6).save_pretrained(
        "base"
    )
    _generator()
    expected = Path("expected")
    expected.mkdir()
    _scores(RewardModel.from_pretrained("base", device="cpu"), expected / "base.json")
    for name, raw in RECIPES.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(raw | {"out": name}, sort_keys=False))
        model = train(config_from_dict(Recipe, raw | {"out": f"whole-{name}"}))
        shutil.copy(f"whole-{name}/metrics.jsonl", expected / f"{name}.jsonl")
        _scores(RewardModel.from_pretrained(model, device="cpu"), expected / f"{name}.json")
        if name == "gdso":
            shutil.copytree(model, "adapter")
    Path("optimize.yaml").write_text(yaml.safe_dump(OPTIMIZE | {"out": "optimize"}, sort_keys=False))
    outcome = optimize("whole-optimize")
    shutil.copy("whole-optimize/metrics.jsonl", expected / "optimize.jsonl")
    shutil.copy(outcome.model / "pytorch_lora_weights.safetensors", expected / "optimize.safetensors")
    label("whole-targets")
    tables = [pq.read_table(shard) for shard in sorted(Path("whole-targets").glob("*.parquet"))]
    pq.write_table(pa.concat_tables(tables), expected / "targets.parquet")
    score(str(expected / "scores.parquet"))
    for kind in ("sft", "gdso", "optimize", "targets", "scores"):
        died = subprocess.run([sys.executable, __file__, "--kill", kind]).returncode
        assert died == -signal.SIGKILL, (kind, died)
    for folder in Path().glob("whole-*"):
        shutil.rmtree(folder)
    for card in Path().rglob("README.md"):  # PEFT's model cards
        card.unlink()


def optimize(out: str) -> optimizing.Outcome:
    torch.manual_seed(0)  # a new adapter's weights came from the global random state
    return optimizing.optimize(config_from_dict(OptimizeRecipe, OPTIMIZE | {"out": out}))


def label(out: str) -> None:
    records = load_records("records.jsonl")
    targets.label(RewardModel.from_pretrained("base", device="cpu"), "base", records, Path(out), LABELLING)


def score(out: str) -> None:
    bulk.SHARD = SHARD
    os.utime("records.jsonl", (CHANGED, CHANGED))
    bulk.score_data(RewardModel.from_pretrained("base", device="cpu"), Path("records.jsonl"), Path(out), batch_size=2)


def killed(kind: str) -> None:
    """Start a run that dies after its first checkpoint or its second shard."""
    if kind in RECIPES:
        _die_in(CallbackHandler, "on_step_end", 3)
        train(config_from_dict(Recipe, RECIPES[kind] | {"out": kind}))
    elif kind == "optimize":
        _die_in(optimizing._Optimization, "_train_step", 3)
        optimize("optimize")
    elif kind == "targets":
        _die_in(targets, "_label_shard", 3)
        label("targets")
    else:
        _die_in(bulk, "_scored", 3)
        score("scores.parquet")


def _die_in(owner: object, name: str, call: int) -> None:
    inner, calls = getattr(owner, name), []

    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)

    setattr(owner, name, counted)


def _rubric() -> Rubric:
    dimensions = (
        Dimension(name, name.capitalize(), f"rate the {name}", {1: "all wrong", 5: "all right"})
        for name in ("alignment", "realism")
    )
    return Rubric("tiny", "1", dimensions=tuple(dimensions))


def _records() -> None:
    """Two pictures of each of eight prompts."""
    Path("pictures").mkdir()
    lines = []
    for number in range(16):
        colour = COLOURS[number // 2 % 4]
        picture = Image.new("RGB", (32, 32), "white")
        ImageDraw.Draw(picture).ellipse((2, 2, 14 + number, 28 - number), colour)
        picture.save(f"pictures/{number}.png")
        scores = {"alignment": 1 + number % 9 / 2, "realism": 5 - number % 5}
        prompt = f"a {colour} circle" if number < 8 else f"the {colour} circle"
        lines.append({"id": str(number), "prompt": prompt, "image": f"pictures/{number}.png", "scores": scores})
    Path("records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime("records.jsonl", (CHANGED, CHANGED))
    Path("prompts.txt").write_text("".join(f"a {colour} circle\n" for colour in COLOURS))
    Path("held_out.txt").write_text("".join(f"a {colour} cross\n" for colour in COLOURS))


def _generator() -> None:
    """A pipeline of Stable Diffusion's classes at 16 x 16 pixels, in half precision to be small."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from tests.generation.conftest import tiny_text_encoder

    torch.manual_seed(0)
    text_encoder, tokenizer = tiny_text_encoder()
    sizes = {"block_out_channels": (4, 4), "layers_per_block": 1, "norm_num_groups": 2}
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=16,
        mid_block_add_attention=False,
        **sizes,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        **sizes,
    )
    StableDiffusionPipeline(
        vae=autoencoder.eval().half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.eval().half(),
        scheduler=DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained("generator")


def _scores(model: RewardModel, out: Path) -> None:
    """Of the records, directly and after reasoning (greedy)."""
    records = load_records("records.jsonl")[:4]
    pictures, prompts = [record.open_image() for record in records], [record.prompt for record in records]
    judged = model.judge(pictures, prompts, temperature=0.0)
    out.write_text(
        json.dumps(
            {
                "direct": model.score(pictures, prompts).probs.tolist(),
                "reasoned": [one.distribution.probs.tolist() for one in judged],
                "traces": [one.traces for one in judged],
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1] == "--kill":
        killed(sys.argv[2])
    else:
        shutil.copytree(sys.argv[2], Path(sys.argv[1]) / "recipes", ignore=shutil.ignore_patterns("accelerate"))
        os.chdir(sys.argv[1])
        write_all()
