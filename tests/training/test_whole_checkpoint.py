"""Runs that go on from damaged or hostile files: refused with the file's name before a step is taken; no code in them runs."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from zreward.common.errors import InputError
from zreward.common.runs import COMPLETE, RunDirectory
from zreward.training.global_batch import FILE, keep_global_batch
from zreward.training.run import train
from zreward.training.stopping import BEST_FACTS, read_best
from zreward.training.trainer_base import RewardTrainer
from zreward.training.zero_shards import fit_shards


class Killed(Exception):
    pass


@pytest.fixture
def recipe(make_recipe):
    return make_recipe("sft", steps=2, save_every=1, keep_checkpoints=1)


@pytest.fixture
def checkpoint(recipe, monkeypatch) -> Path:
    """Of a run that was killed in its last step but one."""
    with monkeypatch.context() as patch:
        save = RewardTrainer.save_model

        def killed(self, folder, **more):
            if folder.endswith("/model"):
                raise Killed
            save(self, folder, **more)

        patch.setattr(RewardTrainer, "save_model", killed)
        with pytest.raises(Killed):
            train(recipe)
    shutil.rmtree(Path(recipe.out) / "checkpoints" / "checkpoint-1", ignore_errors=True)
    return Path(recipe.out) / "checkpoints" / "checkpoint-2"


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def evil() -> bytes:
    file = io.BytesIO()
    torch.save(Evil(), file)
    return file.getvalue()


def test_damaged_and_missing_states_are_refused(recipe, checkpoint, tmp_path, monkeypatch):
    """Without its optimizer, a run would go on with a new one in silence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RewardTrainer, "run_to_end", lambda self, last: pytest.fail("a step is taken"))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        file = checkpoint / name
        whole = file.read_bytes()
        for content in (b"", b"x" * 100, whole[: len(whole) // 2], evil()):
            file.write_bytes(content)
            with pytest.raises(
                InputError, match=f"{file} is damaged, or holds more than numbers; delete {checkpoint} and"
            ):
                train(recipe, resume=True)
        file.unlink()
        if name != "rng_state.pth":  # with more processes than before, some have none
            with pytest.raises(InputError, match=f"{file} is not there, .*resume under the engine"):
                train(recipe, resume=True)
        file.write_bytes(whole)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"global_step": "x"}, "global_step is 'x', expected 2"),
        ({"global_step": 1}, "global_step is 1, expected 2"),
        ({"log_history": 7}, "log_history is not a list of steps with numbers"),
        ({"log_history": [{"step": 1, "dev_hpa": "high"}]}, "log_history is not"),
        ({"log_history": [{"loss": 1.0}]}, "log_history is not"),
        (b"", "no JSON"),
        (b"[]", "expected an object"),
    ],
)
def test_a_damaged_log_is_refused(recipe, checkpoint, change, told):
    file = checkpoint / "trainer_state.json"
    stored = json.loads(file.read_text())
    file.write_bytes(change if isinstance(change, bytes) else json.dumps(stored | change).encode())
    with pytest.raises(InputError, match=f"{file}.*{told}"):
        train(recipe, resume=True)


def test_folders_beside_the_checkpoints_are_left_alone(recipe, checkpoint):
    copies = [checkpoint.parent / name for name in ("checkpoint-2-good", "checkpoint-old-1", "checkpoint-old")]
    for copy in copies:
        shutil.copytree(checkpoint, copy)
    (copies[0] / COMPLETE).unlink()
    run = RunDirectory(Path(recipe.out))
    assert run.checkpoints() == [checkpoint]
    train(recipe, resume=True)
    assert all(copy.exists() for copy in copies)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        *(f'{{"global_batch": {x}}}' for x in ("0", "-4", '"x"', "NaN", "3.5", "1e400", "true", "1" * 18)),
    ],
)
def test_a_damaged_note_of_the_global_batch(make_recipe, tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path / FILE}.*(damaged|not a valid)"):
        keep_global_batch(tmp_path, make_recipe("sft"), 1)


def test_a_large_global_batch_is_refused_at_once(make_recipe, tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"global_batch": 2**53 - 111}))  # a prime number
    with pytest.raises(InputError, match="which 2 processes cannot share evenly; resume with 1$"):
        keep_global_batch(tmp_path, make_recipe("sft"), 2)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"step": "x", "metric": "dev_hpa", "value": 1}',
        '{"step": 1, "metric": "\\u001b[2J", "value": 1}',
    ],
)
def test_damaged_facts_of_the_best_weights(tmp_path, content):
    (tmp_path / BEST_FACTS).write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path / BEST_FACTS} .*"):
        read_best(tmp_path)


def zero(processes: int = 2) -> SimpleNamespace:
    return SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED,
        num_processes=processes,
        is_main_process=True,
        wait_for_everyone=lambda: None,
        state=SimpleNamespace(deepspeed_plugin=SimpleNamespace(deepspeed_config={})),
    )


@pytest.mark.parametrize(
    "name", ["../other", "/etc", "..", ".", "", "a/b", "gone", "a\0b", "link", "x" * 2000, "\udcff"]
)
def test_shards_lie_inside_the_checkpoint(tmp_path, name):
    """DeepSpeed reads them as pickles."""
    checkpoint = tmp_path / "checkpoint-1"
    for folder in (tmp_path / "other", checkpoint / "good", checkpoint / "a" / "b"):
        folder.mkdir(parents=True)
        for rank in (0, 1):
            (folder / f"{rank}_optim_states.pt").touch()
    (checkpoint / "link").symlink_to(tmp_path / "other")
    fit_shards_of(checkpoint, "good", None)
    for tag, universal in ((name, None), ("good", name)):
        with pytest.raises(InputError, match=f"{checkpoint}/latest.*expected (a folder inside|the name of a folder)"):
            fit_shards_of(checkpoint, tag, universal, processes=3)


def fit_shards_of(checkpoint: Path, tag: str, universal: str | None, processes: int = 2) -> None:
    for file, content in (("latest", tag), ("latest_universal", universal)):
        (checkpoint / file).unlink(missing_ok=True)
        if content is not None:
            (checkpoint / file).write_bytes(os.fsencode(content))
    fit_shards(zero(processes), checkpoint)


def test_a_checkpoint_without_shards(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "latest").write_text("good")
    with pytest.raises(InputError, match=r"good holds no optimizer of DeepSpeed \(\*_optim_states.pt\); delete"):
        fit_shards(zero(), tmp_path)
