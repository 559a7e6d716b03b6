"""Going on with a run: from the newest whole checkpoint, with the recipe, data and weights that it began with, or not at all.

tests/test_killed.py kills trainings at many places.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from zreward.common.errors import InputError
from zreward.common.files import file_digest
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label


def steps(run) -> list[int]:
    return [row["step"] for row in read_metrics(run) if "loss" in row]


def unfinished(recipe) -> Path:
    """The recipe's run as a kill just before its last file leaves it."""
    train(recipe)
    shutil.rmtree(Path(recipe.out) / "model")
    return Path(recipe.out)


def test_a_checkpoint_that_was_cut_off_is_not_resumed_from(make_recipe):
    recipe = make_recipe("sft", steps=4, save_every=2)
    run = unfinished(recipe)
    latest = run / "checkpoints" / "checkpoint-4"
    (latest / "COMPLETE").unlink()
    (latest / "optimizer.pt").write_bytes(b"half")
    train(recipe, resume=True)  # goes on from checkpoint-2, without reading the broken one
    assert steps(run) == [1, 2, 3, 4]


def test_a_finished_run_is_left_alone(make_recipe, capsys):
    recipe = make_recipe("sft", steps=2, save_every=1)
    run = Path(recipe.out)
    train(recipe)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert train(recipe, resume=True) == run / "model"
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_that_only_lacks_its_model_trains_nothing(make_recipe):
    recipe = make_recipe("sft", steps=2, save_every=1)
    run = unfinished(recipe)
    train(recipe, resume=True)
    assert steps(run) == [1, 2]
    last = run / "checkpoints" / "checkpoint-2" / "model.safetensors"
    assert file_digest(run / "model" / "model.safetensors") == file_digest(last)


def damaged(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes(b"" if how == "emptied" else content[: len(content) // 2])


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("model.safetensors", "emptied", r"model.safetensors is empty"),
        ("model.safetensors", "removed", r"its weights .a .safetensors file. are missing"),
        ("model.safetensors", "cut", r"model.safetensors is cut off or damaged"),
        ("config.json", "removed", r"config.json is missing"),
        ("zreward.json", "emptied", r"zreward.json is empty"),
        ("tokenizer.json", "cut", r"tokenizer.json is not a valid tokenizer.json"),
    ],
)
def test_a_finished_run_whose_model_is_damaged_names_the_file_and_writes_it_again(
    make_recipe, capsys, name, how, words
):
    recipe = make_recipe("sft", steps=2, save_every=1)
    model = train(recipe)
    whole = file_digest(model / "model.safetensors")
    damaged(model / name, how)
    with pytest.raises(InputError, match=rf"{words}.*; the run is finished, but .* delete {model} and use --resume"):
        train(recipe, resume=True)
    assert "nothing to do" not in capsys.readouterr().err
    shutil.rmtree(model)
    train(recipe, resume=True)
    assert file_digest(model / "model.safetensors") == whole and steps(recipe.out) == [1, 2]


def test_a_finished_adapter_whose_weights_are_gone_is_named(make_recipe):
    recipe = make_recipe("sft", steps=1, save_every=1, model__lora_rank=2)
    model = train(recipe)
    damaged(model / "adapter_model.safetensors", "removed")
    with pytest.raises(InputError, match="its weights .* are missing; the run is finished"):
        train(recipe, resume=True)


@pytest.mark.parametrize(("warm", "said"), [(1, False), (2, True), (10, True)])
def test_a_run_that_ends_inside_its_warm_up_says_so(make_recipe, capsys, warm, said):
    train(make_recipe("sft", steps=2, optimizer__warmup_steps=warm))
    note = f"warmup_steps is {warm} and optimizer.steps 2: the run ends while the learning rate still rises"
    assert (note in capsys.readouterr().err) == said


def test_as_many_checkpoints_stay_as_the_recipe_says(make_recipe):
    recipe = make_recipe("sft", steps=5, save_every=1, keep_checkpoints=1)
    train(recipe)
    assert [path.name for path in (Path(recipe.out) / "checkpoints").iterdir()] == ["checkpoint-5"]


def copied(tiny_data, tmp_path) -> dict[str, str]:
    """Overrides that name a train file, pictures and a model of this test alone."""
    records = load_records(tiny_data["train"])
    moved = []
    for n, record in enumerate(records):
        path = tmp_path / f"{n}.bmp"
        record.open_image().save(path)
        moved.append(type(record)(record.prompt, str(path), record.scores))
    shutil.copytree(tiny_data["base"], tmp_path / "base")
    return {
        "data__train": str(save_records(moved, tmp_path / "train.jsonl")),
        "model__name": str(tmp_path / "base"),
        "model__pixel_budget": 32 * 32,
    }


def changed(what: str, folder: Path) -> None:
    if what == "picture":
        Image.new("RGB", Image.open(folder / "0.bmp").size, "red").save(folder / "0.bmp")
    elif what == "rating":
        lines = (folder / "train.jsonl").read_text().splitlines()
        row = json.loads(lines[0])
        row["scores"] = dict.fromkeys(row["scores"], 1.5)
        (folder / "train.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    else:
        file = folder / "base" / "model.safetensors"
        weights = load_file(file)
        weights[max(weights)].flatten()[-1] += 1e-3
        save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("what", "key"), [("picture", "data.train"), ("rating", "data.train"), ("weights", "model.weights")]
)
def test_other_data_and_weights_are_refused_by_name(make_recipe, tiny_data, tmp_path, what, key):
    recipe = make_recipe("sft", **copied(tiny_data, tmp_path))
    run = unfinished(recipe)
    before = file_digest(run / "metrics.jsonl")
    changed(what, tmp_path)
    with pytest.raises(InputError, match=rf"other inputs \(different: {key}: \"\w+\", now \"\w+\"\); bring the old"):
        train(recipe, resume=True)
    assert file_digest(run / "metrics.jsonl") == before and not (run / "model").exists()


def test_other_targets_are_refused_by_name(make_recipe, tiny_data, tmp_path):
    model, pool = RewardModel.from_pretrained(tiny_data["base"]), load_records(tiny_data["pool"])
    options = LabelOptions(reasoning=False)
    label(model, "base", pool, tmp_path / "targets", options)
    recipe = make_recipe("risd", data__train=str(tiny_data["pool"]), data__targets=str(tmp_path / "targets"))
    unfinished(recipe)
    shutil.rmtree(tmp_path / "targets")
    with torch.no_grad():
        next(model.backbone.model.parameters()).add_(0.1)
    label(model, "base", pool, tmp_path / "targets", options)
    with pytest.raises(InputError, match=r"other inputs \(different: data.targets"):
        train(recipe, resume=True)


def test_a_run_of_an_older_version_goes_on_and_says_what_cannot_be_checked(make_recipe, capsys):
    recipe = make_recipe("sft", steps=2, save_every=1)
    run = unfinished(recipe)
    (run / "inputs.json").unlink()
    train(recipe, resume=True)
    assert "started by an older zreward" in capsys.readouterr().err
    (run / "inputs.json").write_text("half")
    shutil.rmtree(run / "model")
    with pytest.raises(InputError, match="inputs.json is damaged"):
        train(recipe, resume=True)


def test_a_moved_run_goes_on(make_recipe, tmp_path):
    recipe = make_recipe("sft", steps=2, save_every=1)
    run = unfinished(recipe)
    moved = make_recipe("sft", steps=2, save_every=1, out=str(tmp_path / "moved"))
    run.rename(tmp_path / "moved")
    train(moved, resume=True)
    assert steps(tmp_path / "moved") == [1, 2]
