"""One optimizer step of `optimize`: what reaches it from the recipe, and what it is made of."""

from __future__ import annotations

import random
import weakref
from types import SimpleNamespace

import pytest
import torch

from tests.generation.conftest import stable_diffusion
from tests.generation.gradients import PROMPTS, before_each_step, make_recipe, prepared, write_inputs
from tests.plain_model import small_model
from tests.tiny import tiny_model
from zreward.generation import optimize as module
from zreward.generation.guards import Evaluation, Guards

SETTINGS = {
    "optimizer__learning_rate": 0.01,
    "optimizer__warmup_steps": 4,
    "optimizer__weight_decay": 0.5,
    "optimizer__max_grad_norm": 2.0,
    "optimizer__average": 0.75,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    write_inputs(folder, small_model(0, patch_size=4).float())
    tiny_model(seed=1).save_pretrained(folder / "other")
    return folder


@pytest.fixture
def optimization(folder, tmp_path, monkeypatch):
    """optimization(**changes of the recipe), with a pipeline in float32."""

    def make(**changes):
        recipe = make_recipe(folder, **SETTINGS | changes)
        object.__setattr__(recipe, "out", str(tmp_path / "run"))
        monkeypatch.setattr(module, "load_pipeline", lambda *_: stable_diffusion())
        return prepared(recipe, monkeypatch, load=False)[0]

    return make


def slope_of(optimization, monkeypatch, slope: float) -> None:
    """A loss whose gradient is `slope` everywhere."""

    def loss(rng):
        total = sum(weight.sum() for weight in optimization.adaptation.weights.values())
        return slope * total, {"reward": 0.0, "drift": 0.0}

    monkeypatch.setattr(optimization, "_loss", loss)


def test_the_learning_rate_rises_in_equal_parts_and_stays(optimization, monkeypatch):
    made, rates = optimization(), []
    slope_of(made, monkeypatch, 0.0)
    with before_each_step(lambda: rates.append(made.optimizer.param_groups[0]["lr"])):
        for made.step in range(6):
            made._train_step()
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


@pytest.mark.parametrize(("slope", "norm"), [(1.0, 2.0), (1e-4, None)])
def test_long_gradients_are_cut_to_the_norm_and_short_ones_stay(optimization, monkeypatch, slope, norm):
    made, found = optimization(), []
    slope_of(made, monkeypatch, slope)
    weights = list(made.adaptation.weights.values())
    whole = slope * sum(w.numel() for w in weights) ** 0.5
    with before_each_step(lambda: found.append(sum(float(w.grad.square().sum()) for w in weights) ** 0.5)):
        metrics = made._train_step()
    assert found == [pytest.approx(norm or whole, rel=1e-4)] and metrics["grad_norm"] == pytest.approx(whole, rel=1e-4)
    assert all(w.grad is None for w in weights)


def test_weights_decay_and_their_average_follows(optimization, monkeypatch):
    made = optimization()
    slope_of(made, monkeypatch, 0.0)
    before = {name: weight.detach().clone() for name, weight in made.adaptation.weights.items()}
    made.step = 3  # the warm-up is over
    made._train_step()
    for name, weight in made.adaptation.weights.items():
        assert torch.allclose(weight, before[name] * (1 - 0.01 * 0.5), atol=1e-7)
        assert torch.allclose(made.adaptation.average[name], 0.75 * before[name] + 0.25 * weight, atol=1e-7)


def test_only_the_denoiser_is_trained(optimization):
    made = optimization()
    trained = set(made.adaptation.weights)
    assert trained == {name for name, _ in made.pipeline.unet.named_parameters()}
    for part in (made.pipeline.vae, made.pipeline.text_encoder, made.student):
        assert not any(p.requires_grad for p in part.parameters()) and not part.training
    assert not made.pipeline.unet.training


def test_an_adapter_has_its_rank_and_strength(optimization):
    made = optimization(generator__lora_rank=2, generator__lora_alpha=6, generator__lora_targets=["to_q"])
    layers = [module for _, module in made.pipeline.unet.named_modules() if hasattr(module, "scaling")]
    assert layers and all(layer.scaling == {"zreward": 3.0} and layer.r == {"zreward": 2} for layer in layers)
    assert all(".to_q.lora_" in name for name in made.adaptation.weights)


def test_the_reward_is_the_mean_over_copies_disturbed_as_the_recipe_says(optimization, monkeypatch):
    made = optimization(reward__copies=3, reward__shift=2, reward__noise=0.25, guards__anchor=0.5)
    asked, drawn = [], []
    pixels = torch.rand(2, 3, 8, 8)

    def draw(pipeline, prompts, seeds, plan, *rest, **options):
        drawn.append((prompts, seeds))
        return SimpleNamespace(pixels=pixels, calls=[])

    def disturbed(given, shift, noise):
        asked.append((shift, noise))
        return given * len(asked)

    monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(module, "disturbed", disturbed)
    monkeypatch.setattr(module, "drift", lambda calls, frozen: torch.tensor(0.25))
    monkeypatch.setattr(made, "_reward", lambda given, prompts, reference: (given.mean((1, 2, 3)), None))
    loss, metrics = made._loss(random.Random(0))
    reward = pixels.mean().item() * (1 + 2 + 3) / 3
    assert asked == [(2, 0.25)] * 3 and metrics["reward"] == pytest.approx(reward, rel=1e-5)
    assert metrics["drift"] == 0.25 and loss.item() == pytest.approx(-reward + 0.5 * 0.25, rel=1e-5)
    ((prompts, seeds),) = drawn
    assert len(prompts) == len(set(seeds)) == 2 and set(prompts) <= set(PROMPTS)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_way_of_every_draw_is_drawn_from_the_recipes_ranges(optimization, monkeypatch, checkpointing):
    made = optimization(
        **{"gradient__steps": [1, 2], "gradient__skipped": [0, 1], "gradient__checkpointing": checkpointing},
        **{"generator__guidance": 2.5, "generator__height": 16, "guards__anchor": 0.0},
    )
    seen, pixels = [], torch.rand(2, 3, 8, 8)

    def draw(pipeline, prompts, seeds, plan, recompute, **options):
        seen.append((plan.steps, plan.gradient_steps, plan.skipped))
        assert recompute is checkpointing and options == {"guidance_scale": 2.5, "height": 16}
        return SimpleNamespace(pixels=pixels, calls=[])

    monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(module, "drift", lambda calls, frozen: torch.tensor(0.0))
    monkeypatch.setattr(made, "_reward", lambda given, prompts, reference: given.mean((1, 2, 3)))
    rng = random.Random(0)
    for _ in range(40):
        _, metrics = made._loss(rng)
        assert metrics["gradient_steps"] == seen[-1][1]
    assert set(seen) == {(3, steps, skipped) for steps in (1, 2) for skipped in (0, 1)}


def test_seed_step_and_process_decide_what_is_drawn(optimization, monkeypatch):
    def drawn(seed: int, step: int, rank: int) -> tuple:
        made = optimization(seed=seed)
        made.step, found = step, []
        made.accelerator = SimpleNamespace(process_index=rank, num_processes=1)
        slope = sum(weight.sum() for weight in made.adaptation.weights.values())

        def loss(rng: random.Random):
            found.append((rng.random(), torch.rand(1).item()))
            return 0.0 * slope, {}

        monkeypatch.setattr(made, "_loss", loss)
        made._train_step()
        return tuple(found)

    base = drawn(3, 1, 0)
    assert base == drawn(3, 1, 0)
    others = [drawn(4, 1, 0), drawn(3, 2, 0), drawn(3, 1, 1)]
    for place in (0, 1):  # prompts and seeds; and torch's own draws
        assert len({found[0][place] for found in (base, *others)}) == 4


def test_student_and_held_out_judge_are_those_that_the_recipe_names(optimization, folder):
    made = optimization(guards__holdout=str(folder / "other"))
    assert made.evaluator.holdout.name == str(folder / "other") and made.evaluator.final is None
    assert made.evaluator.student is made.student
    assert made.inputs["student"]["weights"] != made.inputs["guards"]["holdout"]["weights"]
    assert made.student.backbone.base.config.get_text_config().hidden_size == 16  # the other has 32
    assert made.prompts == PROMPTS and made.evaluator.prompts == ["a green circle", "a red cross"]


def test_prompts_of_the_end_are_none_of_the_evaluations(optimization, folder):
    (folder / "held_out.txt").write_text("a green circle\na red cross\na blue cross\n")
    made = optimization(final__judge="oracle", final__prompts=1)
    assert made.evaluator.prompts == ["a green circle", "a red cross"] and made.final_prompts == ["a blue cross"]
    assert made.evaluator.final.name == "oracle" and made.evaluator.holdout is None


def test_a_checkpoint_brings_step_guards_and_moments_back(optimization, monkeypatch):
    made = optimization()
    slope_of(made, monkeypatch, 1.0)
    made._train_step()
    made.step = 1
    made.guards.see(Evaluation(0, 3.0, {"a": 3.0}, {}, 1.0, 0.1, 0.2, 0.0))
    made._checkpoint()
    state = {name: made.optimizer.state[weight]["exp_avg"].clone() for name, weight in made.adaptation.weights.items()}
    evaluations, average = list(made.guards.evaluations), {k: v.clone() for k, v in made.adaptation.average.items()}
    made.step, made.guards = 9, Guards(made.recipe.guards)
    made.optimizer.state.clear()
    for tensor in made.adaptation.average.values():
        tensor.zero_()
    made.resume()
    assert made.step == 1 and made.guards.evaluations == evaluations and made.guards.best == evaluations[0]
    for name, weight in made.adaptation.weights.items():
        assert torch.equal(made.optimizer.state[weight]["exp_avg"], state[name]) and state[name].abs().sum() > 0
        assert torch.equal(made.adaptation.average[name], average[name])


def test_the_rewards_activations_are_gone_before_the_generators_backward_pass(optimization, monkeypatch):
    made, kept = optimization(reward__copies=2), []
    whole = made.student.distribution_of

    def watched(*given):
        def keep(tensor):
            saved = tensor.detach()  # the tensor itself would keep the node that made it
            kept.extend([weakref.ref(saved)] if not tensor.is_leaf else [])
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return whole(*given)

    monkeypatch.setattr(made.student, "distribution_of", watched)
    loss, _ = made._loss(random.Random(0))
    assert len(kept) > 100 and not any(one() is not None for one in kept)
    loss.backward()
    assert any(weight.grad.abs().max() > 0 for weight in made.adaptation.weights.values())
