"""The small parts of training, each on its own: order of pairs, augmentation, Trainer's settings, logs, checkpoints."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, remove_checkpoint
from zreward.data import Pair, Record
from zreward.models.rows import Row
from zreward.training import trainer_base
from zreward.training.annotated import annotated_items, compared_items
from zreward.training.augment import MISMATCHED, drop_words, flip_and_shift, mismatch, one_of
from zreward.training.direct import DirectItem, by_image
from zreward.training.rollout_data import RepeatSampler, pair_items, unrated_items
from zreward.training.trainer_base import RewardTrainer, training_arguments

# --- what is trained on


@pytest.mark.parametrize("size", [7, 8])  # one index too many, and one too few for another block
def test_blocks_are_repeated_in_a_row_and_the_rest_that_fills_none_is_left_out(size):
    sampler = RepeatSampler(size, block=3, repeats=2, seed=5)
    order = list(sampler)
    assert len(sampler) == len(order) == 12
    assert order[:3] == order[3:6] and order[6:9] == order[9:12]
    assert len(set(order)) == 6
    assert order == list(RepeatSampler(size, 3, 2, 5))
    # The seeded order that trained models have seen: a permutation of seed * 100,003 + epoch.
    permuted = torch.randperm(size, generator=torch.Generator().manual_seed(500_015)).tolist()
    assert order[:3] + order[6:9] == permuted[:6]
    sampler.set_epoch(2)
    permuted = torch.randperm(size, generator=torch.Generator().manual_seed(500_017)).tolist()
    assert list(sampler)[:3] == permuted[:3]


@pytest.mark.parametrize(("size", "block", "repeats", "expected"), [(2, 5, 1, 2), (4, 2, 1, 4), (6, 3, 3, 18)])
def test_a_block_is_never_larger_than_what_there_is(size, block, repeats, expected):
    sampler = RepeatSampler(size, block, repeats, seed=0)
    assert len(sampler) == len(list(sampler)) == expected
    assert set(sampler) == set(range(size))


RECORDS = [
    Record("p", b"0", {"realism": [4.0, 5.0], "alignment": 2.0}),
    Record("p", b"1", {"realism": 2.0}),
    Record("q", b"2", {}),
]


def test_pairs_become_items_winner_first_with_scores_and_targets():
    model = tiny_model()
    (item,) = pair_items(RECORDS, [Pair(0, 1, "realism", 2.5)], model, smoothing=0.5)
    assert item.records == (RECORDS[0], RECORDS[1]) and item.dimension == "realism" and item.scores == (4.5, 2.0)
    scale = model.rubric.scale
    assert torch.equal(item.targets, torch.stack([scale.histogram([4.0, 5.0], 0.5), scale.histogram([2.0], 0.5)]))


@pytest.mark.parametrize("pair", [Pair(0, 2, "realism", 1.0), Pair(2, 0, "realism", 1.0)])
def test_a_pair_with_an_unrated_side_is_a_mistake_of_the_program(pair):
    with pytest.raises(AssertionError, match="mined among rated records"):
        pair_items(RECORDS, [pair], tiny_model(), smoothing=0.0)[0]


def test_unrated_records_become_one_item_for_every_dimension():
    items = unrated_items(RECORDS[:2], ["a", "b"])
    assert [(item.records, item.dimension) for item in items] == [((r,), name) for r in RECORDS[:2] for name in "ab"]
    assert items[0].scores == () and items[0].targets is None
    assert [item.number for item in items] == [0, 1, 2, 3]


def test_pairs_are_numbered_by_their_place():
    pairs = [Pair(0, 1, "realism", 2.5)] * 3
    assert [item.number for item in pair_items(RECORDS, pairs, tiny_model(), smoothing=0.0)] == [0, 1, 2]


def test_rated_dimensions_become_direct_items():
    model = tiny_model()
    items = annotated_items(RECORDS, ["alignment", "realism"], model, smoothing=0.0)
    scale = model.rubric.scale
    expected = [(0, "alignment", [2.0]), (0, "realism", [4.0, 5.0]), (1, "realism", [2.0])]
    found = [(RECORDS.index(item.record), item.dimension, item.target.tolist()) for item in items]
    assert found == [(n, name, scale.histogram(scores).tolist()) for n, name, scores in expected]
    (smooth,) = annotated_items(RECORDS[1:2], ["realism"], model, smoothing=0.5)
    assert smooth.target.tolist() == scale.histogram([2.0], 0.5).tolist()


def test_items_of_one_picture_and_reference_go_together():
    a, b, c = RECORDS
    target = torch.ones(2)
    items = [
        DirectItem(a, "x", target, reference=b),
        DirectItem(b, "x", target, reference=a),
        DirectItem(a, "y", target, reference=b),
        DirectItem(a, "z", target, reference=c),
        DirectItem(a, "u", target),
    ]
    groups = [[items.index(item) for item in group] for group in by_image(items)]
    assert groups == [[0, 2], [1], [3], [4]]
    pairs = compared_items(RECORDS, [Pair(1, 0, "realism", 1e-9)])
    assert [item.target.tolist() for item in pairs] == [[0.0, 1.0], [1.0, 0.0]]
    assert [item.dimension for item in pairs] == ["realism", "realism"]


# --- augmentation


def test_a_picture_is_flipped_and_cropped_from_its_reflected_surroundings():
    """Against a plain loop, for the draws that the seed gives."""
    height, width = 35, 48  # two rows and four columns: an eleventh would be a row more, a thirteenth a column less
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    flipped = 0
    for seed in range(8):
        torch.manual_seed(seed)
        flip, row, column = torch.rand(3).tolist()
        torch.manual_seed(seed)
        found = flip_and_shift(pixels)
        up, left = height // 12, width // 12
        flipped += flip < 0.5
        for y in range(height):
            for x in range(width):
                source_y = abs(y + int(row * (2 * up + 1)) - up)
                source_x = abs(x + int(column * (2 * left + 1)) - left)
                source_y = min(source_y, 2 * (height - 1) - source_y)
                source_x = min(source_x, 2 * (width - 1) - source_x)
                source_x = width - 1 - source_x if flip < 0.5 else source_x
                assert torch.equal(found[:, y, x], pixels[:, source_y, source_x])
    assert 0 < flipped < 8


def test_words_are_left_out_by_their_own_draws():
    words = [f"w{n}" for n in range(30)]
    torch.manual_seed(3)
    draws = torch.rand(30).tolist()
    torch.manual_seed(3)
    assert drop_words("  ".join(words), 0.4) == " ".join(w for w, draw in zip(words, draws, strict=True) if draw >= 0.4)
    assert drop_words("a red circle", 0.0) == "a red circle"
    torch.manual_seed(3)
    assert drop_words("cat dog", 1.0) == "cat"


def test_a_word_whose_draw_is_the_share_stays(monkeypatch):
    """Draws are from 0 on: without dropout every word stays, whatever is drawn."""
    monkeypatch.setattr(torch, "rand", torch.zeros)
    assert drop_words("a red circle", 0.0) == "a red circle"


# --- Trainer's settings, logs and checkpoints


def test_a_recipe_in_transformers_words(make_recipe, tmp_path):
    recipe = make_recipe(
        "sft",
        steps=7,
        optimizer__batch_size=3,
        optimizer__gradient_accumulation=2,
        optimizer__learning_rate=3e-4,
        optimizer__schedule="linear",
        optimizer__warmup_steps=4,
        optimizer__weight_decay=0.25,
        optimizer__max_grad_norm=0.5,
        optimizer__gradient_checkpointing=True,
        seed=9,
        save_every=6,
    )
    arguments = training_arguments(recipe, RunDirectory(tmp_path / "run"))
    expected = {
        "output_dir": str(tmp_path / "run" / "checkpoints"),
        "max_steps": 7,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "linear",
        "warmup_steps": 4,
        "weight_decay": 0.25,
        "max_grad_norm": 0.5,
        "gradient_checkpointing": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": 6,
        "seed": 9,
        "data_seed": 9,
        "report_to": [],
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": False,
        "dataloader_num_workers": 0,
        "dataloader_multiprocessing_context": None,
    }
    assert {name: getattr(arguments, name) for name in expected} == expected
    own = training_arguments(replace(recipe, trainer={"data_seed": 4, "logging_steps": 2}), RunDirectory(tmp_path))
    assert (own.data_seed, own.logging_steps, own.max_steps) == (4, 2, 7)


@pytest.mark.parametrize("trainer", [{"no_such_option": 1}, {"lr_scheduler_type": "diagonal"}])
def test_settings_that_transformers_refuses_are_one_message(make_recipe, tmp_path, trainer):
    with pytest.raises(InputError, match="recipe: transformers refuses optimizer.schedule, report_to or trainer"):
        training_arguments(replace(make_recipe("sft"), trainer=trainer), RunDirectory(tmp_path))


@pytest.fixture
def trainer(make_recipe, tmp_path):
    """A trainer of nothing, for what it does by itself."""

    class Idle(RewardTrainer):
        def collate(self, items):
            return {"items": items}

    return Idle(tiny_model(), make_recipe("sft"), RunDirectory(tmp_path / "run"), [1, 2, 3])


def test_values_of_micro_batches_are_averaged_into_the_steps_log(trainer):
    trainer.record(reward=torch.tensor(1.0), tokens=4)
    trainer.record(reward=2.0)
    trainer.record(reward=6.0)
    trainer.log({"loss": 3.0})
    trainer.log({"loss": 4.0})
    trainer.record(late=1.0)
    trainer.log({"train_runtime": 5.0})  # the summary of the run is no step
    logged = [{k: v for k, v in row.items() if k not in ("epoch", "step")} for row in trainer.state.log_history]
    assert logged == [{"loss": 3.0, "reward": 3.0, "tokens": 4.0}, {"loss": 4.0}, {"train_runtime": 5.0}]
    assert {type(value) for row in logged for value in row.values()} == {float}  # of plain numbers, for JSON


def test_a_loss_that_is_no_number_stops_training(trainer):
    trainer.refuse_nan(torch.tensor(1e30))
    trainer.state.global_step = 3
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(
            FloatingPointError,
            match=r"step 3: the loss is .* start again. Lower optimizer.learning_rate",
        ):
            trainer.refuse_nan(torch.tensor(bad))


def test_tensors_go_to_the_device_and_the_rest_stays():
    images, elsewhere = [object()], SimpleNamespace(args=SimpleNamespace(device=torch.device("meta")))
    prepared = RewardTrainer._prepare_inputs(elsewhere, {"target": torch.ones(1), "images": images})
    assert prepared["images"] is images and prepared["target"].device.type == "meta"


def test_names_of_the_backbone_become_those_of_its_model():
    tensors = {"model.a.model.b": torch.ones(1), "other.c": torch.ones(1)}
    assert list(trainer_base._inner(tensors)) == ["a.model.b"]
    assert trainer_base._inner(None) is None


def test_a_checkpoint_is_a_reward_model_that_loads_again(trainer, tmp_path):
    from zreward.models.reward_model import RewardModel

    state = {name: value + 1 for name, value in trainer.model.state_dict().items()}
    trainer._save(str(tmp_path / "deep" / "checkpoint"), state)
    saved = RewardModel.from_pretrained(tmp_path / "deep" / "checkpoint").backbone.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state.items() if name in saved)
    trainer._load_from_checkpoint(str(tmp_path / "deep" / "checkpoint"))
    assert all(torch.equal(trainer.model.state_dict()[name], value) for name, value in saved.items())
    trainer._save()
    assert (tmp_path / "run" / "checkpoints" / "config.json").exists()


def test_the_newest_whole_checkpoint_counts(tmp_path):
    assert RunDirectory(tmp_path).last_checkpoint() is None
    for step in (2, 10, 9, 30):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        if step != 30:  # cut off
            (tmp_path / "checkpoints" / f"checkpoint-{step}" / "COMPLETE").touch()
    assert RunDirectory(tmp_path).last_checkpoint() == tmp_path / "checkpoints" / "checkpoint-10"


def test_the_log_is_written_by_the_main_process_only(tmp_path):
    files = trainer_base._RunFiles(RunDirectory(tmp_path))
    state = SimpleNamespace(is_world_process_zero=False, log_history=[{"loss": 1.0}])
    files.on_train_end(None, state, None)
    assert not (tmp_path / "metrics.jsonl").exists()
    state.is_world_process_zero = True
    files.on_train_end(None, state, None)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [{"loss": 1.0}]


def test_checkpoints_are_kept_by_age_and_half_written_ones_are_swept(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (2, 10, 9, 30):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "weights").touch()
        if step != 30:  # cut off
            (folder / f"checkpoint-{step}" / "COMPLETE").touch()
    assert [path.name for path in RunDirectory(tmp_path).checkpoints()] == [
        "checkpoint-2",
        "checkpoint-9",
        "checkpoint-10",
    ]
    RunDirectory(tmp_path).remove_half_written()
    remove_checkpoint(folder / "checkpoint-9")
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-2"]


def test_the_progress_bar_keeps_the_newest_figures(capsys):
    shown = []
    progress = trainer_base._Progress()
    progress.training_bar = SimpleNamespace(set_postfix=lambda figures: shown.append(dict(figures)))
    state = SimpleNamespace(is_world_process_zero=True, log_history=[])
    for entry in ({"loss": 9.0}, {"dev_hpa": 0.75}, {"loss": 1.25, "reward": 0.5, "grad_norm": 3.0}):
        state.log_history.append(entry)
        progress.on_log(None, state, None)
    assert shown == [
        {"loss": "9.000"},
        {"loss": "9.000", "dev_hpa": "0.750"},
        {"loss": "1.250", "dev_hpa": "0.750", "reward": "0.500"},
    ]
    state.is_world_process_zero = False
    progress.on_log(None, state, None)
    state.is_world_process_zero, progress.training_bar = True, None
    progress.on_log(None, state, None)
    assert len(shown) == 3


@pytest.mark.parametrize(("rank", "expected"), [(None, True), ("0", True), ("1", False)])
def test_the_main_process_is_rank_nought(monkeypatch, rank, expected):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert trainer_base.is_main_process() is expected


def test_one_of_several_views_each_as_often():
    views = torch.arange(3.0)[:, None]
    torch.manual_seed(0)
    drawn = [int(one_of(views)) for _ in range(300)]
    assert all(70 < drawn.count(number) < 130 for number in range(3))  # 100, give or take 8


def test_a_share_of_one_dimensions_rows_get_another_prompt_and_a_low_target():
    """Every row by its own prompt's number: what changed is another prompt of the batch, and nothing else changed."""
    rows = [Row((n // 2,), f"prompt {n // 4}", name) for n in range(400) for name in ("quality", "alignment")]
    target = torch.rand(800, 5, dtype=torch.float64)
    torch.manual_seed(0)
    kept = target.clone()
    changed, made = mismatch(rows, target, "alignment", 0.25)
    assert torch.equal(target, kept) and len(changed) == 800
    moved = [n for n, (row, before) in enumerate(zip(changed, rows, strict=True)) if row != before]
    assert 70 < len(moved) < 130  # 100 of 400, give or take 8.7
    for n, (row, before) in enumerate(zip(changed, rows, strict=True)):
        assert replace(row, prompt=before.prompt) == before
        wanted = torch.tensor([*MISMATCHED, 0.0, 0.0], dtype=torch.float64) if n in moved else target[n]
        torch.testing.assert_close(made[n], wanted, atol=1e-7, rtol=0)
    assert all(rows[n].dimension == "alignment" and changed[n].prompt != rows[n].prompt for n in moved)
    assert len({changed[n].prompt for n in moved}) > 40  # of 100 prompts
    assert sum(MISMATCHED) == pytest.approx(1) and list(MISMATCHED) == sorted(MISMATCHED, reverse=True)


def test_a_batch_of_one_prompt_has_no_other():
    rows, target = [Row((n,), "a cross", "alignment") for n in range(4)], torch.full((4, 3), 1 / 3)
    changed, made = mismatch(rows, target, "alignment", 0.99)
    assert changed == rows and torch.equal(made, target)
