"""AGIQA-3K from random weights: the recipe loads, a miniature of the official layout trains, augmentation resumes."""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data import import_agiqa3k, load_records
from zreward.data.importers.agiqa3k import COLUMNS
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, learn_tokenizer, make_scratch, shared_words
from zreward.rubric import Rubric
from zreward.training.annotated import annotated_items
from zreward.training.augment import REACH, drop_words, flip_and_shift
from zreward.training.direct import by_image
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import load_model, train

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "agiqa3k-sft.yaml"
RUBRIC = Rubric.from_yaml(ROOT / "zreward" / "rubrics" / "agiqa3k.yaml")
SMALL = [
    "model.scratch.hidden_size=24",
    "model.scratch.heads=2",
    "model.scratch.intermediate_size=32",
    "model.scratch.layers=1",
    "model.scratch.vision_hidden_size=24",
    "model.scratch.vision_heads=2",
    "model.scratch.vision_intermediate_size=32",
    "model.scratch.vision_layers=1",
]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> Path:
    """Six prompts with two 40 x 40 pictures each, in AGIQA-3K's layout, imported: the records file."""
    root = tmp_path_factory.mktemp("agiqa3k")
    (root / "images").mkdir()
    draw = random.Random(0)
    with (root / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n in range(12):
            name = f"sd1.5_normal_{n:03d}.jpg"
            colour = tuple(draw.randrange(256) for _ in range(3))
            picture = Image.new("RGB", (40, 40), colour)
            picture.paste((255 - colour[0], 0, n * 20), (n, 5, n + 9, 30))
            picture.save(root / "images" / name)
            prompt = f"a thing number{n // 2}, anime style"
            writer.writerow([name, prompt, "", "", "anime style", draw.uniform(0, 4.5), 0.6, draw.uniform(0, 4.5), 0.7])
    return import_agiqa3k(root, root / "out")


def recipe_for(miniature: Path, out: Path, *overrides: str) -> Recipe:
    fixed = [f"data.train={miniature}", f"data.dev={miniature}", f"out={out}", "eval_every=0", "model.longest_side=32"]
    fixed += [
        f"model.rubric={ROOT / 'zreward/rubrics/agiqa3k.yaml'}",
        "optimizer.batch_size=4",
        "optimizer.warmup_steps=1",
    ]
    return load_recipe(RECIPE, [*fixed, *SMALL, *overrides])


def test_the_recipe_loads_and_opens_with_its_commands():
    recipe = load_recipe(RECIPE)
    assert (recipe.method, recipe.model.name) == ("sft", "scratch:qwen3_5")
    header = RECIPE.read_text().splitlines()[:5]
    assert header[0].startswith("# zreward data import agiqa3k")
    assert "SYNTHETIC" in "".join(header)


def test_the_recipes_model_is_as_small_as_it_says():
    spec = load_recipe(RECIPE).model.scratch
    model = make_scratch("qwen3_5", spec, ["a cat, anime style", "a dog, anime style"], RUBRIC)
    assert 0.6e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.2e6


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_vl"])
def test_scratch_trains_on_both_dimensions_and_its_checkpoint_scores(miniature, tmp_path, family):
    recipe = recipe_for(miniature, tmp_path / "run", "optimizer.steps=3", f"model.name=scratch:{family}")
    torch.manual_seed(recipe.seed)
    before = load_model(recipe).backbone.model.state_dict()
    folder = train(recipe)
    after = load_file(folder / "model.safetensors")
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert any("visual" in name for name in moved)
    assert any("language_model" in name for name in moved)
    model = RewardModel.from_pretrained(folder)
    record = load_records(miniature, split="test")[0]
    scores = model.score([record.image], [record.prompt])
    assert scores.dimensions == ("quality", "alignment")
    assert model.resolution.longest_side == 32
    assert ((scores.mean >= 1) & (scores.mean <= 5)).all()


def test_fitting_the_miniature_lowers_the_loss(miniature, tmp_path):
    options = ["optimizer.steps=30", "optimizer.learning_rate=0.005", "data.word_dropout=0.0"]
    train(recipe_for(miniature, tmp_path / "run", *options))
    losses = [row["loss"] for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_augmented_training_resumes_with_the_same_draws(miniature, tmp_path):
    options = ["optimizer.steps=6", "save_every=3", "keep_checkpoints=9", "data.word_dropout=0.5"]
    train(recipe_for(miniature, tmp_path / "straight", *options))
    recipe = recipe_for(miniature, tmp_path / "cut", *options)
    train(recipe)
    for later in ("checkpoints/checkpoint-6", "model"):  # as if it had been killed after step 3
        shutil.rmtree(tmp_path / "cut" / later)
    train(recipe, resume=True)
    straight, cut = ([r["loss"] for r in read_metrics(tmp_path / run) if "loss" in r] for run in ("straight", "cut"))
    assert len(cut) == 6
    assert cut == pytest.approx(straight, abs=1e-6)


def test_dimensions_of_one_image_stay_together(miniature, tmp_path):
    model = load_model(recipe_for(miniature, tmp_path))
    records = load_records(miniature, split="train")
    groups = by_image(annotated_items(records, RUBRIC.dimension_names, model, 0.0))
    assert [group[0].record.id for group in groups] == [record.id for record in records]
    assert all([item.dimension for item in group] == ["quality", "alignment"] for group in groups)


def test_flip_and_shift_moves_pixels_without_changing_them():
    # Every pixel its own value: no resampling means that no value appears that was not there.
    pixels = torch.arange(3 * 24 * 36).view(3, 24, 36) / (3 * 24 * 36)
    torch.manual_seed(0)
    results = [flip_and_shift(pixels) for _ in range(40)]
    assert all(result.shape == pixels.shape for result in results)
    assert all(torch.isin(result, pixels).all() for result in results)
    mirrored = sum(bool(result[0, 5, 5] > result[0, 5, 20]) for result in results)
    assert 8 < mirrored < 32  # 40 draws of one half: 20, give or take 3.2
    # 24 rows shifted by at most a twelfth: row 12 comes from rows 10 to 14.
    rows = {int(result[0, 12, 18] * 3 * 24 * 36) // 36 for result in results}
    assert rows == set(range(12 - int(24 * REACH), 12 + int(24 * REACH) + 1))


def test_drop_words_keeps_order_and_at_least_one():
    torch.manual_seed(0)
    words = [f"w{n}" for n in range(200)]
    kept = drop_words(" ".join(words), 0.3).split()
    assert kept == [word for word in words if word in set(kept)]
    assert 110 < len(kept) < 170  # 140, give or take 6.5
    assert drop_words("cat dog", 0.999999) == "cat"


def test_words_of_two_prompts_are_single_tokens_and_others_are_spelled():
    words = shared_words(["a cat, anime style", "a dog, anime style", "a dog, anime style"])
    assert words == ["a", "anime", "style"]  # "dog" stands in one prompt, given twice
    tokenizer = learn_tokenizer(words)
    assert len(tokenizer(" anime")["input_ids"]) == 1
    assert len(tokenizer(" zebra")["input_ids"]) > 1
    assert tokenizer.decode(tokenizer(" zebra, ü")["input_ids"]) == " zebra, ü"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.scratch.hidden_size=50", "multiple of 8"),
        ("model.scratch.positions=50", "square number"),
        ("model.scratch.depth=2", "unknown key model.scratch.depth"),
        ("data.word_dropout=1.5", "word_dropout is 1.5"),
        ("method=grpo", "group_dimensions goes with methods"),
    ],
)
def test_bad_options_are_refused(miniature, tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        recipe_for(miniature, tmp_path, override)


def test_an_unknown_family_is_refused():
    with pytest.raises(InputError, match=r"scratch:llama is unknown.*scratch:qwen3_5"):
        make_scratch("llama", ScratchSpec(), ["a cat"], RUBRIC)
