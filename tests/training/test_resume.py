"""kill -9 in the middle, the same command with --resume: the same losses step by step, the same final weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.runs import read_metrics
from zreward.training.recipe import DataRecipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, distilled_items, label

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def kill_when(command: list[str], happened, limit: float = 120) -> None:
    """Start a command, kill -9 it once `happened()`, and make sure that it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    end = time.monotonic() + limit
    while not happened() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert alive, f"the command ended before it was killed: {errors.decode()[-2000:]}"


def compare(straight: str, resumed: str) -> None:
    first, second = ([r for r in read_metrics(run) if "loss" in r] for run in (straight, resumed))
    assert [row["step"] for row in first] == [row["step"] for row in second]
    assert [row["loss"] for row in first] == pytest.approx([row["loss"] for row in second], abs=1e-6)
    one, two = (load_file(Path(run) / "model" / "model.safetensors") for run in (straight, resumed))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


@pytest.mark.parametrize("method", ["gdso", "risd"])
def test_training_killed_and_resumed_equals_an_uninterrupted_run(method, make_recipe, tiny_data, tmp_path):
    extra = {}
    if method == "risd":
        pool = load_records(tiny_data["pool"])
        teacher = RewardModel.from_pretrained(tiny_data["base"])
        targets = label(teacher, "base", pool, tmp_path / "targets", LabelOptions(seed=1))
        extra = {"data__train": str(tiny_data["pool"]), "data__targets": str(targets)}
    steps = 16
    options = {"steps": steps, "save_every": 2, "seed": 3, "optimizer__warmup_steps": 2, **extra}
    straight = make_recipe(method, out=str(tmp_path / "straight"), **options)
    killed = make_recipe(method, out=str(tmp_path / "killed"), **options)
    train(straight)

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(killed.to_dict()))
    command = [sys.executable, "-m", "zreward.cli", "train", str(recipe)]
    checkpoints = Path(killed.out) / "checkpoints"
    kill_when(command, lambda: any(checkpoints.glob("checkpoint-[4-9]/COMPLETE")))
    assert not (Path(killed.out) / "model").exists()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    compare(straight.out, killed.out)


def test_a_checkpoint_that_was_cut_off_is_not_resumed_from(make_recipe):
    recipe = make_recipe("sft", steps=4, save_every=2)
    train(recipe)
    latest = Path(recipe.out) / "checkpoints" / "checkpoint-4"
    (latest / "COMPLETE").unlink()
    (latest / "optimizer.pt").write_bytes(b"half")
    train(recipe, resume=True)  # goes on from checkpoint-2, without reading the broken one
    assert [row["step"] for row in read_metrics(recipe.out) if "loss" in row] == [1, 2, 3, 4]


def test_labelling_killed_and_restarted_neither_loses_nor_repeats(tiny_data, tmp_path):
    pool = load_records(tiny_data["pool"])
    teacher = RewardModel.from_pretrained(tiny_data["base"])
    options = LabelOptions(seed=5, shard_size=2, batch_size=2)
    straight = label(teacher, "base", pool, tmp_path / "straight", options)

    out = tmp_path / "killed"
    command = [sys.executable, "-m", "zreward.cli", "label", str(tiny_data["base"]), "--data", str(tiny_data["pool"])]
    command += ["--out", str(out), "--seed", "5", "--shard-size", "2", "--batch-size", "2"]
    kill_when(command, lambda: (out / "targets-00001.parquet").exists())
    before = len(list(out.glob("targets-*.parquet")))
    assert before < 6
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for file in sorted(straight.glob("targets-*.parquet")):
        assert file.read_bytes() == (out / file.name).read_bytes()
    items = distilled_items(out, pool, DataRecipe(train=""), teacher)
    assert len(items) == len(pool) * len(teacher.rubric.dimensions)
    assert len({(id(item.record), item.dimension) for item in items}) == len(items)
