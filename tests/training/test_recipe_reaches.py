"""Every key of a recipe reaches what it is for: trainers are built from files, and nothing is trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.tiny import COMPARISON, noise_pictures, tiny_model
from zreward.common.errors import InputError
from zreward.common.jobs import Job
from zreward.common.runs import RunDirectory
from zreward.data import Record, load_records
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training import methods
from zreward.training import run as run_module
from zreward.training.run import build_trainer, load_model, prepare, train
from zreward.training.targets import LabelOptions, label

PICTURES = noise_pictures(8, seed=3)
RECORDS = [
    Record(f"a {'red' if n < 4 else 'blue'} circle", PICTURES[n], scores, split="dev" if n == 7 else "train")
    for n, scores in enumerate(
        [
            {"realism": [4.0, 5.0], "alignment": 2.0},
            {"realism": [1.0, 4.0, 4.5]},
            {"realism": 3.0},
            {"realism": 3.0},
            {"realism": [1.5, 2.5]},
            {"realism": 5.0},
            {"alignment": 4.0, "realism": 1.0},
            {"realism": 2.0},
        ]
    )
]
OTHERS = noise_pictures(6, seed=4)
DEV = [Record(f"a green square {n}", OTHERS[n], {"realism": 3.0}, split="a" if n % 2 else "b") for n in range(6)]
BINS = [1 + k / 2 for k in range(9)]


@pytest.fixture
def written(make_recipe, tmp_path):
    """written(method, **changes) -> a recipe over `RECORDS`, in a file of its own."""
    path = save_records(RECORDS, tmp_path / "train.jsonl")
    return lambda method, **changes: make_recipe(method, **{"data__train": str(path)} | changes)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Of `RECORDS`, by three traces each; and the labelled records as they are read back."""
    folder = tmp_path_factory.mktemp("targets")
    records = load_records(save_records(RECORDS, folder / "train.jsonl"))
    options = LabelOptions(traces=3, dimensions=("realism", "alignment"))
    return label(tiny_model(trace_tokens=6), "teacher", records, folder / "targets", options)


def items(recipe, tmp_path) -> list:
    """What a trainer of the recipe would train on."""
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    return [item for group in trainer.train_dataset for item in (group if isinstance(group, list) else [group])]


def test_split_and_number_of_records_choose_what_is_trained_on(written, tmp_path, targets):
    def prompts_of(method, **changes):
        return [item.record.prompt for item in items(written(method, **changes), tmp_path)]

    assert len(prompts_of("sft", data__dimensions=["realism"])) == 8
    assert len(prompts_of("sft", data__dimensions=["realism"], data__train_split="train")) == 7
    assert len(prompts_of("sft", data__dimensions=["realism"], data__train_records=3)) == 3
    assert len(prompts_of("sft", data__train_records=3)) == 4  # one more is rated on alignment
    taught = {"data__targets": str(targets), "data__train_records": 2}
    assert (
        len(prompts_of("risd", **taught)) == 4 and len(prompts_of("risd", **taught, data__dimensions=["realism"])) == 2
    )
    assert len(prompts_of("rewarddance", **taught)) == 3
    opd = written("opd", rollout__teacher="world:small", data__train_records=2, data__dimensions=["realism"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "load_teacher", lambda recipe, model: model)
        assert len(build_trainer(opd, RunDirectory(tmp_path / "run"), load_model(opd)).train_dataset) == 2


def test_smoothing_reaches_every_method_that_has_targets(written, tmp_path, targets):
    def widths(method, **changes):
        found = items(written(method, **changes), tmp_path)
        rows = [row for item in found for row in (item.targets if method == "gdso" else item.target[None])]
        return [int((row > 1e-6).sum()) for row in rows]

    taught = {"data__targets": str(targets)}
    for method, more in (("sft", {}), ("rewarddance", taught), ("gdso", {})):
        assert max(widths(method, **more)) <= 3  # at most as many bins as there are raters
        assert min(widths(method, **more, data__smoothing=0.5)) > 3, method


def test_a_published_spread_is_in_the_target_beside_the_smoothing(written, tmp_path, make_recipe):
    """A Gaussian whose variance is the sum of both, on a mean in the middle of the scale."""
    spread = Record("a red circle", PICTURES[0], {"realism": 3.0}, stds={"realism": 0.6})
    path = save_records([spread], tmp_path / "spread.jsonl")
    for smoothing, variance in ((0.0, 0.36), (0.8, 1.0)):
        (item,) = items(make_recipe("sft", data__train=str(path), data__smoothing=smoothing), tmp_path)
        weights = [2.718281828459045 ** (-((b - 3) ** 2) / 2 / variance) for b in BINS]
        assert item.target.tolist() == pytest.approx([w / sum(weights) for w in weights], abs=1e-5)


def test_pairs_are_mined_by_trimmed_means_with_or_without_ties(written, tmp_path):
    for method in ("gdso", "grpo"):
        found = items(written(method, data__dimensions=["realism"]), tmp_path)
        assert [item.scores[0] >= item.scores[1] for item in found] == [True] * 12
        assert sum(item.scores[0] == item.scores[1] for item in found) == 2  # 3 and 3, 2 and 2
        own = {item.scores for item in found if item.records[0].prompt == "a red circle"}
        assert (4.5, 4.0) in own  # the median of three raters, not their mean
        without = items(written(method, data__dimensions=["realism"], rollout__include_ties=False), tmp_path)
        assert len(without) == 10
    compared = items(
        written("rewarddance-pairwise", comparison=asdict(COMPARISON), data__dimensions=["realism"]), tmp_path
    )
    assert len(compared) == 24 and {tuple(item.target.tolist()) for item in compared} == {(0, 1), (1, 0), (0.5, 0.5)}


def test_a_comparing_model_asks_as_the_recipe_says(written, tmp_path):
    how = asdict(replace(COMPARISON, negative="2", positive="8"))
    recipe = written("rewarddance-pairwise", comparison=how)
    judge = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe)).reward_model
    assert judge.rubric.labels == ("2", "8") and judge.rubric.scale.bins.tolist() == [0.0, 1.0]
    assert judge.forms.reference == COMPARISON.reference and judge.forms.direct == COMPARISON.direct


def test_the_dev_curve_reads_its_own_split_and_as_many_records_as_it_may(written, tmp_path):
    path = str(save_records(DEV, tmp_path / "dev.jsonl"))

    def curve(method="sft", **changes):
        recipe = written(method, data__dev=path, data__train_split="train", eval_every=3, **changes)
        (callback,) = run_module._callbacks(
            recipe, methods.find_method(method), [RECORDS], ("realism", "alignment"), tiny_model().rubric, tiny_model()
        )
        return callback

    assert len(curve().records) == 6 and curve().dimensions == ("realism",) and curve().every == 3
    assert [record.split for record in curve(data__dev_split="a").records] == ["a"] * 3
    assert [record.prompt for record in curve(data__dev_records=2).records] == [record.prompt for record in DEV[:2]]
    asked = curve("gdso", eval_temperature=0.5, eval_batch_size=7, seed=4).how
    assert asked == {"reasoning": True, "seed": 4, "temperature": 0.5, "batch_size": 7}
    assert curve().how == {"reasoning": False, "seed": 0, "temperature": 1.0, "batch_size": None}


@pytest.mark.parametrize("step", range(1, 8))
def test_the_dev_curve_has_its_points_at_its_steps_and_at_the_end(step):
    from types import SimpleNamespace

    from zreward.training.curves import DevCurve

    curve, seen = DevCurve(tiny_model(), [], [], False, every=3, seed=0), []
    curve._add_point = lambda args, state, control: seen.append(state.global_step)
    curve.on_step_end(None, SimpleNamespace(global_step=step, max_steps=7), None)
    assert seen == ([step] if step in (3, 6, 7) else [])


@pytest.mark.parametrize(("processes", "job"), [(1, None), (3, Job(2, 3))])
def test_each_process_scores_its_part_of_the_dev_records(monkeypatch, processes, job):
    """The rest is that of `predict` (tests/test_shared_evaluation.py)."""
    from types import SimpleNamespace

    from zreward.training import curves

    model, asked = tiny_model(), []
    made = curves.predict(model, DEV, ["realism"], progress=False)

    def noted(*_, job, together, **__):
        asked.append((job, together))
        return made

    monkeypatch.setattr(curves, "predict", noted)
    curve = curves.DevCurve(model, list(DEV), ["realism"], False, every=3, seed=0)
    state = SimpleNamespace(global_step=0, log_history=[])
    for together in (False, True):
        monkeypatch.setattr(type(model.backbone), "is_sharded", together)
        curve.on_train_begin(SimpleNamespace(world_size=processes, process_index=1), state, None)
    assert asked == [(job, False), (job, True)] and len(state.log_history) == 2


def test_what_the_model_is_loaded_with(make_recipe):
    plain = load_model(make_recipe("sft"))
    assert plain.resolution.longest_side is None
    asked = load_model(make_recipe("sft", model__longest_side=16, model__max_trace_tokens=5))
    assert (asked.resolution.longest_side, asked.max_trace_tokens) == (16, 5)
    assert load_model(make_recipe("sft", model__pixel_budget=999)).resolution.pixel_budget == 999
    for name in (make_recipe("sft").model.name, "scratch:qwen3_5"):
        eager = load_model(make_recipe("sft", model__name=name, model__attn_implementation="eager"))
        assert eager.backbone.base.config.get_text_config()._attn_implementation == "eager"
    with pytest.raises(InputError, match="model.attn_implementation is 'flash'; expected one of"):
        make_recipe("sft", model__attn_implementation="flash")


def test_what_is_trained_is_kept_in_float32_and_what_is_not_stays_as_it_came(make_recipe):
    whole = load_model(make_recipe("sft", model__dtype="bfloat16"))
    assert {weight.dtype for weight in whole.parameters()} == {torch.float32} and whole.computed_in == torch.bfloat16
    seeing = load_model(make_recipe("sft", model__dtype="bfloat16", model__freeze_vision=True))
    assert seeing.backbone.vision_tower.patch_embed.proj.weight.dtype == torch.bfloat16
    adapted = load_model(make_recipe("sft", model__dtype="bfloat16", model__lora_rank=2))
    kinds = {(weight.requires_grad, weight.dtype) for weight in adapted.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    assert load_model(make_recipe("sft")).computed_in is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, torch.bfloat16), ({"model__lora_rank": 2}, torch.bfloat16), ({"trainer__bf16": False}, torch.float32)],
    ids=["full", "lora", "told otherwise"],
)
def test_a_bfloat16_model_is_trained_by_passes_in_bfloat16(make_recipe, monkeypatch, more, expected):
    """Its trained weights are float32: without autocast, so would be every product."""
    seen = set()

    def note(layer, args, output):
        if layer.training and torch.is_grad_enabled():
            seen.add(output.dtype)

    def watched(*given):
        model = load_model(*given)
        for layer in model.backbone.base.model.language_model.layers:
            layer.mlp.down_proj.register_forward_hook(note)
        return model

    monkeypatch.setattr(run_module, "load_model", watched)
    train(make_recipe("sft", steps=1, model__dtype="bfloat16", **more))
    assert seen == {expected}


def test_small_steps_move_the_weights_of_a_bfloat16_model(make_recipe):
    def moved(dtype: str) -> tuple[float, Path]:
        recipe = make_recipe("sft", steps=5, model__dtype=dtype, optimizer__learning_rate=1e-5)
        recipe = replace(recipe, out=f"{recipe.out}-{dtype}")
        before = load_model(recipe).backbone.model.state_dict()
        trained = train(recipe)
        after = RewardModel.from_pretrained(trained, dtype="float32").backbone.model.state_dict()
        changed = [(after[name] != weight).flatten() for name, weight in before.items()]
        return torch.cat(changed).float().mean().item(), trained

    wanted, _ = moved("float32")  # embeddings of words that no prompt has stay as they are
    found, trained = moved("bfloat16")
    assert found > 0.97 * wanted > 0.5
    assert RewardModel.from_pretrained(trained).backbone.base.dtype == torch.bfloat16


def test_an_adapter_has_its_rank_strength_and_places_and_goes_on_being_trained(make_recipe):
    more = {"model__lora_rank": 2, "model__lora_alpha": 6, "model__lora_targets": ".*q_proj"}
    recipe = make_recipe("sft", steps=1, **more)
    made = load_model(recipe).backbone.model
    layers = [module for module in made.modules() if hasattr(module, "scaling") and isinstance(module.scaling, dict)]
    assert layers and all(layer.scaling == {"default": 3.0} and layer.r == {"default": 2} for layer in layers)
    trained = [name for name, p in made.named_parameters() if p.requires_grad]
    assert trained and all(".q_proj.lora_" in name for name in trained)
    folder = train(recipe)
    again = load_model(make_recipe("sft", model__name=str(folder))).backbone.model
    assert [name for name, p in again.named_parameters() if p.requires_grad] == trained


def test_a_frozen_vision_tower_has_no_gradient_and_the_rest_has(make_recipe):
    for freeze in (False, True):
        recipe = make_recipe("sft", model__freeze_vision=freeze)
        model = prepare(tiny_model(), recipe)
        tower = {id(p) for p in model.backbone.vision_tower.parameters()}
        trained = {id(p) for p in model.backbone.parameters() if p.requires_grad}
        assert (not tower & trained) if freeze else (tower <= trained)
        assert {id(p) for p in model.backbone.model.parameters()} - tower <= trained


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_pictures_and_words_are_changed_where_asked_and_only_there(written, tmp_path, monkeypatch, augment, dropout):
    from zreward.training import direct

    monkeypatch.setattr(direct, "flip_and_shift", lambda image: image + 1)
    monkeypatch.setattr(direct, "drop_words", lambda prompt, share: f"{prompt} less {share}")
    recipe = written("sft", data__augment=augment, data__word_dropout=dropout)
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    batch = trainer.collate([[trainer.train_dataset[0][0]]])
    images, rows = trainer._augmented(batch["images"], batch["rows"])
    shown = [trainer.reward_model.prepare(image) for image in (images[0], batch["images"][0])]
    assert torch.equal(shown[0], shown[1] + int(augment))
    assert rows[0].prompt == "a red circle" + (" less 0.5" if dropout else "")


@pytest.mark.parametrize("keep", [False, True])
def test_kept_pictures_are_each_records_own_and_opened_once(written, tmp_path, keep):
    recipe = written("sft", data__keep_images=keep, data__dimensions=["realism"])
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    opened, original = [], trainer.reward_model.decode
    trainer.reward_model.decode = lambda image: opened.append(image) or original(image)
    for _ in range(2):
        batch = trainer.collate([[group[0]] for group in trainer.train_dataset])
        for image, group in zip(batch["images"], trainer.train_dataset, strict=True):
            assert torch.equal(image, original(group[0].record.image))
    assert len(opened) == (8 if keep else 16)


def test_norms_and_biases_do_not_decay_and_the_seed_decides_the_order(make_recipe, tmp_path):
    recipe = make_recipe("sft", optimizer__weight_decay=0.25)
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    trainer.create_optimizer()
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    by_decay = {g["weight_decay"]: [names[id(p)] for p in g["params"]] for g in trainer.optimizer.param_groups}
    assert set(by_decay) == {0.0, 0.25}
    assert not any("norm" in name or name.endswith("bias") for name in by_decay[0.25])
    assert all("norm" in name or name.endswith("bias") or name.endswith(("A_log", "dt_bias")) for name in by_decay[0.0])

    def order(seed, out):
        seeded = make_recipe("sft", steps=1, seed=seed, out=str(tmp_path / out), optimizer__batch_size=1)
        return Path(train(seeded)).parent / "metrics.jsonl"

    losses = [order(seed, f"{seed}-{n}").read_text().split("\n")[0].split(",")[0] for n, seed in enumerate((0, 0, 1))]
    assert losses[0] == losses[1] != losses[2]


def test_the_seed_is_set_before_a_new_adapter_is_drawn(make_recipe, monkeypatch):
    class Loaded(Exception):
        pass

    def drawn(seed: int) -> float:
        def load(*_):
            raise Loaded(torch.rand(1).item())

        monkeypatch.setattr(run_module, "load_model", load)
        with pytest.raises(Loaded) as found:
            train(make_recipe("sft", seed=seed))
        return found.value.args[0]

    assert drawn(1) == drawn(1) != drawn(2)
