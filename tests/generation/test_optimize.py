"""`zreward optimize` on tiny random pipelines: it learns, resumes to the same weights, and keeps what was good when it stops."""

import json
import math
import os
import shutil
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.common.termination import Terminated
from zreward.generation import optimize as module
from zreward.generation.adaptation import Adaptation, load_optimized
from zreward.generation.optimize import optimize
from zreward.generation.recipe import GeneratorRecipe, OptimizeRecipe


@pytest.fixture
def folder(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "generator")
    return tmp_path


def make_recipe(folder, name="run", **changes) -> OptimizeRecipe:
    raw = {
        "student": "world:small",
        "out": str(folder / name),
        "prompts": "world:6",
        "held_out": "world:6",
        "generator": {"name": str(folder / "generator"), "steps": 3},
        "gradient": {"steps": [1, 2]},
        "optimizer": {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 1, "average": 0.5},
        "guards": {"every": 2, "prompts": 2, "min_diversity": 0.0, "max_drift": 9.0, "max_dimension_fall": 9.0},
        "final": {"judge": "oracle", "prompts": 4, "seeds": 2},
        "save_every": 2,
    }
    for key, value in changes.items():
        place = raw
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config_from_dict(OptimizeRecipe, raw, "test")


def enlarge(pipeline_folder):
    """The world's oracle reads 32 x 32 pixels: twice the tiny pipeline's size."""
    config = pipeline_folder / "unet" / "config.json"
    config.write_text(config.read_text().replace('"sample_size": 8', '"sample_size": 16'))


def weights(run, part="model"):
    return load_file(run / part / "unet" / "diffusion_pytorch_model.safetensors")


def test_a_run_leaves_everything_that_is_asked_of_it(folder):
    enlarge(folder / "generator")
    outcome = optimize(make_recipe(folder, optimizer__learning_rate=3e-3, optimizer__average=0.0))
    run = folder / "run"
    assert outcome.guard is None and outcome.message == "ran all 4 steps"
    before = weights(folder, "generator")
    moved = [name for name, value in weights(run).items() if not torch.equal(value, before[name])]
    assert moved
    for part in ("vae", "text_encoder"):
        name = "diffusion_pytorch_model" if part == "vae" else "model"
        frozen = [load_file(place / part / f"{name}.safetensors") for place in (run / "model", folder / "generator")]
        assert all(torch.equal(frozen[0][key], frozen[1][key]) for key in frozen[1])
    assert [row["step"] for row in read_metrics(run)] == [1, 2, 3, 4]
    result = json.loads((run / "gsb.json").read_text())
    assert result["good"] + result["same"] + result["bad"] == result["pairs"] == 8
    assert result["low"] <= result["gsb"] <= result["high"]
    assert (
        set(result["oracle_before"])
        == set(result["oracle_after"])
        == {
            "alignment",
            "realism",
            "aesthetics",
            "plausibility",
        }
    )
    assert all(math.isfinite(result[key]) for key in ("diversity_ratio", "reward_before", "reward_after"))
    page = (run / "report.html").read_text()
    assert "step 4" in page and "fig5" not in page and (run / "fig5.png").exists()
    assert len(list((run / "before").glob("*.png"))) == len(list((run / "after").glob("*.png"))) == 8
    evaluations = json.loads((run / "looks.json").read_text())["looks"]
    assert [evaluation["step"] for evaluation in evaluations] == [0, 2, 4] and evaluations[0]["drift"] == pytest.approx(
        0, abs=1e-9
    )


def test_the_reward_rises(folder):
    """With the whole plan's gradient and no pull back. A random generator draws texture: there is not much to gain."""
    recipe = make_recipe(
        folder,
        gradient__steps=[3, 3],
        optimizer__steps=20,
        optimizer__learning_rate=6e-3,
        optimizer__batch_size=6,
        guards__every=20,
        guards__enabled=False,
        guards__anchor=0.0,
        final__judge="none",
    )
    optimize(recipe)
    rewards = [row["reward"] for row in read_metrics(folder / "run")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.05
    assert json.loads((folder / "run" / "looks.json").read_text())["looks"][-1]["drift"] > 1e-4


def test_sigterm_ends_with_a_checkpoint_from_which_the_run_goes_on(folder, monkeypatch):
    options = {"final__judge": "none", "guards__enabled": False}
    optimize(make_recipe(folder, "straight", **options))
    recipe, loss = make_recipe(folder, **options), module._Optimization._loss

    def terminated(self, rng):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, rng)

    monkeypatch.setattr(module._Optimization, "_loss", terminated)
    with pytest.raises(Terminated, match="stopped by SIGTERM at step 3; continue with --resume"):
        optimize(recipe)
    monkeypatch.undo()
    optimize(recipe, resume=True)
    for name, weight in weights(folder / "straight").items():
        assert torch.equal(weights(folder / "run")[name], weight)


def test_a_resumed_run_ends_with_the_same_weights(folder, monkeypatch):
    optimize(make_recipe(folder, "straight", final__judge="none", guards__enabled=False))
    recipe = make_recipe(folder, "cut", final__judge="none", guards__enabled=False)

    class Cut(Exception):
        pass

    step = module._Optimization._train_step

    def train_step(self):
        if self.step == 3:
            raise Cut
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(module._Optimization, "_train_step", train_step)
        with pytest.raises(Cut):
            optimize(recipe)
    optimize(recipe, resume=True)
    one, two = weights(folder / "straight"), weights(folder / "cut")
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6
    assert not torch.equal(one["conv_in.weight"], weights(folder, "generator")["conv_in.weight"])
    changed = {"final__judge": "none", "guards__enabled": False, "seed": 5}
    with pytest.raises(InputError, match=r"another recipe \(different: seed: 0, now 5\)"):
        optimize(make_recipe(folder, "cut", **changed), resume=True)
    with pytest.raises(InputError, match="not empty; add --resume"):
        optimize(recipe)


def test_a_finished_run_is_left_alone_and_other_inputs_are_refused(folder, capsys):
    (folder / "prompts.txt").write_text("one\ntwo\n")
    recipe = make_recipe(folder, final__judge="none", optimizer__steps=2, prompts=str(folder / "prompts.txt"))
    outcome = optimize(recipe)
    run = folder / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert optimize(recipe, resume=True) == outcome
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    (run / "report.html").unlink()  # as a kill before the last file leaves it
    (folder / "prompts.txt").write_text("one\nthree\n")
    with torch.no_grad():
        file = folder / "generator" / "unet" / "diffusion_pytorch_model.safetensors"
        stored = load_file(file)
        stored["conv_in.weight"][0] += 0.1
        save_file(stored, file)
    with pytest.raises(InputError, match=r"other inputs \(different: generator.unet: .*, prompts: .*\); bring the old"):
        optimize(recipe, resume=True)


def test_a_new_adapter_is_the_recipes_seeds(folder):
    for name in ("one", "two"):
        optimize(make_recipe(folder, name, generator__lora_rank=2, final__judge="none", optimizer__steps=1))
        torch.rand(3)
    one, two = (load_file(folder / name / "model" / "pytorch_lora_weights.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_scaled_gradients_make_the_same_steps_and_an_overflow_makes_none(folder, monkeypatch):
    """fp16's scaler, which is off without a GPU, switched on in float32."""
    how = {"final__judge": "none", "guards__enabled": False, "optimizer__steps": 3}
    optimize(make_recipe(folder, "plain", **how))
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: scaler(device, enabled=True, init_scale=2.0**127)
    )
    whole = module._Optimization._loss
    with monkeypatch.context() as patch:
        patch.setattr(module._Optimization, "_loss", lambda *given: (64 * (loss := whole(*given))[0], loss[1]))
        optimize(make_recipe(folder, "scaled", **how))
    norms = [row["grad_norm"] for row in read_metrics(folder / "scaled")]
    assert norms[0] is None  # infinite: the step is left out, and the scale halved
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scaler(device, enabled=True))
    optimize(make_recipe(folder, "well-scaled", **how))
    one, two = weights(folder / "plain"), weights(folder / "well-scaled")
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can")
def test_half_precision_that_the_device_cannot_do_is_refused(folder):
    AcceleratorState._reset_state(True)  # accelerate keeps one precision for a whole process
    with pytest.raises(InputError, match="mixed_precision is 'fp16'.*GPU"):
        optimize(make_recipe(folder, final__judge="none", mixed_precision="fp16"))
    AcceleratorState._reset_state(True)


def test_lora_is_saved_as_diffusers_loads_it(folder):
    recipe = make_recipe(folder, generator__lora_rank=2, final__judge="none", guards__enabled=False)
    optimize(recipe)
    saved = load_file(folder / "run" / "model" / "pytorch_lora_weights.safetensors")
    assert saved and all("lora" in name for name in saved)
    assert any(name.endswith("lora_B.weight") and value.abs().max() > 0 for name, value in saved.items())
    loaded = load_optimized(recipe, "cpu")
    assert any("lora" in name for name, _ in loaded.unet.named_parameters())


def test_a_step_of_two_micro_batches_takes_the_mean_of_their_gradients(folder, monkeypatch):
    slopes, counted = iter((1.0, 3.0)), []

    def straight(self, rng):
        slope, weights = next(slopes), self.adaptation.weights.values()
        counted.append(sum(weight.numel() for weight in weights))
        return slope * sum(weight.sum() for weight in weights), {"reward": slope, "drift": 0.0}

    monkeypatch.setattr(module._Optimization, "_loss", straight)
    optimize(make_recipe(folder, optimizer__gradient_accumulation=2, optimizer__steps=1, final__judge="none"))
    (row,) = read_metrics(folder / "run")
    assert row["reward"] == 2.0
    assert row["grad_norm"] == pytest.approx(2.0 * counted[0] ** 0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("guard", "limit", "message"),
    [
        ("max_drift", 1e-9, "drift is"),
        ("min_entropy", 1.5, "entropy is"),
    ],
)
def test_a_guard_stops_the_run_and_the_first_good_weights_stay(folder, guard, limit, message):
    recipe = make_recipe(folder, final__judge="none", **{f"guards__{guard}": limit})
    outcome = optimize(recipe)
    assert outcome.guard == guard.split("_")[1] and outcome.message.startswith(message)
    stored = json.loads((folder / "run" / "outcome.json").read_text())
    assert stored["guard"] == outcome.guard
    if guard == "max_drift":
        assert (outcome.step, stored["stopped_at"]) == (0, 2)
        kept, before = weights(folder / "run"), weights(folder, "generator")
        assert all(torch.equal(kept[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", r"unet: its weights .a .safetensors file. are missing"),
        pytest.param("vae", r"vae is missing", marks=pytest.mark.slow),
        pytest.param(".", r"model is missing", marks=pytest.mark.slow),
    ],
)
def test_a_finished_run_whose_generator_is_damaged_is_named_and_made_again(folder, monkeypatch, place, words):
    recipe = make_recipe(folder, final__judge="none", optimizer__steps=2)
    optimize(recipe)
    kept, model = weights(folder / "run"), folder / "run" / "model"
    damaged = model / place
    (shutil.rmtree if damaged.is_dir() else os.unlink)(damaged)
    with pytest.raises(
        InputError, match=rf"{words}; the run is finished, but .* delete .*outcome.json and use --resume"
    ):
        optimize(recipe, resume=True)
    (folder / "run" / "outcome.json").unlink()
    assert optimize(recipe, resume=True).message == "ran all 2 steps"
    again = weights(folder / "run")
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_an_emptied_generator_is_named(folder):
    recipe = make_recipe(folder, final__judge="none", optimizer__steps=1, generator__lora_rank=2)
    optimize(recipe)
    file = folder / "run" / "model" / "pytorch_lora_weights.safetensors"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="pytorch_lora_weights.safetensors is empty; the run is finished"):
        optimize(recipe, resume=True)
    file.unlink()
    with pytest.raises(InputError, match="its weights .* are missing"):
        optimize(recipe, resume=True)


def test_a_reward_that_is_not_finite_stops_before_the_weights_take_it(folder, monkeypatch):
    good = module._Optimization._loss

    def loss(self, rng):
        if self.step == 2:
            with torch.no_grad():
                next(self.student.parameters()).fill_(float("nan"))
        return good(self, rng)

    monkeypatch.setattr(module._Optimization, "_loss", loss)
    with pytest.raises(FloatingPointError, match=r"step 3: the reward of .*the last good weights are in .*best"):
        optimize(make_recipe(folder, final__judge="none"))
    assert all(torch.isfinite(value).all() for value in weights(folder / "run", "best").values())


def test_a_full_disk_at_checkpoint_time_keeps_what_was_there(folder, monkeypatch):
    import zreward.generation.state as state

    def full(tensors, path):
        if "step-4" in str(path):
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(
        InputError, match=r"step-4: cannot write: No space left on device; the checkpoint before it is intact"
    ):
        optimize(make_recipe(folder, final__judge="none"))
    assert [path.name for path in (folder / "run" / "checkpoints").iterdir()] == ["step-2"]
    monkeypatch.undo()
    assert optimize(make_recipe(folder, final__judge="none"), resume=True).message == "ran all 4 steps"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": {"aggregate": {"weights": {"beauty": 1.0}}}}, "unknown dimension 'beauty'"),
        ({"reward": {"dimensions": ["beauty"]}}, "beauty"),
        ({"held_out": "world:5"}, r"5 prompts, expected 6 \(guards.prompts and final.prompts\)"),
        ({"gradient": {"steps": [2, 1]}}, r"expected \[lowest, highest\]"),
        ({"gradient": {"steps": [1, 4]}}, "need more than generator.steps"),
        ({"student": "nowhere"}, "nowhere"),
        ({"optimizer": {"learning_rate": float("nan")}}, "learning_rate is nan"),
        ({"final": {"judge": "me"}}, "final.judge is 'me'"),
        ({"final": {"judge": "holdout"}}, "guards.holdout names none"),
    ],
)
def test_bad_recipes_leave_nothing_behind(folder, changes, message):
    with pytest.raises(InputError, match=message):
        optimize(make_recipe(folder, **changes))
    assert not (folder / "run").exists() or not any((folder / "run").iterdir())


def test_a_pipeline_without_its_parts_is_refused(folder):
    shutil.rmtree(folder / "generator" / "unet")
    with pytest.raises(InputError, match="generator"):
        optimize(make_recipe(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prompts"),
        ("a red circle\nbad\x07bell\n", r"line 2: control character '\\x07'"),
        ("one\none\n", "line 2: the same as line 1"),
    ],
)
def test_bad_prompt_files_are_refused(folder, text, message):
    (folder / "prompts.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        optimize(make_recipe(folder, prompts=str(folder / "prompts.txt")))
    assert not (folder / "run" / "recipe.yaml").exists()


def test_trained_and_held_out_prompts_may_not_overlap(folder):
    (folder / "a.txt").write_text("one\ntwo\n")
    (folder / "b.txt").write_text("\n".join(["two", *map(str, range(8))]) + "\n")
    with pytest.raises(InputError, match="1 of its prompts are trained on, such as 'two'"):
        optimize(make_recipe(folder, prompts=str(folder / "a.txt"), held_out=str(folder / "b.txt")))


def test_the_average_follows_the_weights(pipeline):
    adaptation = Adaptation(pipeline, GeneratorRecipe("tiny"), decay=0.75)
    name, weight = next(iter(adaptation.weights.items()))
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    adaptation.update_average()
    assert torch.allclose(adaptation.average[name], before + 0.25)
    with adaptation.averaged():
        assert torch.allclose(weight, before + 0.25)
    assert torch.allclose(weight, before + 1)
