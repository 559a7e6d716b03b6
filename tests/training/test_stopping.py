"""What ends a run early, and what is kept then: SIGTERM, a dev metric that no longer grows, a KL that is too large, a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch

from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics
from zreward.common.termination import Terminated, termination
from zreward.common.watchdog import EXIT_CODE, watchdog
from zreward.models.reward_model import RewardModel
from zreward.training import rollout_objectives
from zreward.training.recipe import Recipe, RolloutRecipe
from zreward.training.rollout_objectives import divergences
from zreward.training.run import load_model, train
from zreward.training.stopping import KeepBest, read_best
from zreward.training.trainer_base import RewardTrainer


def steps(recipe) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_metrics(recipe.out) if "loss" in row]


@pytest.fixture
def in_step(monkeypatch):
    """in_step(n, work): call `work` during step n, counted from 1."""

    def call(number, work) -> None:
        check = RewardTrainer.refuse_nan

        def checked(self, loss):
            if self.state.global_step == number - 1:
                work()
            check(self, loss)

        monkeypatch.setattr(RewardTrainer, "refuse_nan", checked)

    return call


@pytest.mark.parametrize(("method", "more", "ends"), [("sft", {}, 3), ("gdso", {"rollout__updates_per_rollout": 2}, 4)])
def test_sigterm_ends_with_a_checkpoint_from_which_the_run_goes_on(
    make_recipe, monkeypatch, in_step, method, more, ends
):
    recipe = make_recipe(method, steps=6, **more)
    straight = replace(recipe, out=recipe.out + "-straight")
    train(straight)
    handler = signal.getsignal(signal.SIGTERM)
    in_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated, match=f"stopped by SIGTERM at step {ends}; continue with --resume"):
        train(recipe)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert steps(recipe) == steps(straight)[:ends] and not os.path.exists(f"{recipe.out}/model")
    last = RunDirectory(Path(recipe.out)).last_checkpoint()
    assert last is not None and last.name == f"checkpoint-{ends}"
    monkeypatch.undo()
    train(recipe, resume=True)
    assert steps(recipe) == steps(straight)


def test_sigterm_in_the_last_step_ends_the_run_as_usual(make_recipe, in_step):
    recipe = make_recipe("sft", steps=2)
    in_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(recipe).exists()


def test_other_threads_leave_sigterm_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with termination() as asked:
            seen.extend([signal.getsignal(signal.SIGTERM), asked.is_set()])

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, False]


def points(values, metric="dev_hpa"):
    """KeepBest over a planted dev curve: the steps whose weights it kept, and the step at which it ended the run."""
    kept: list[int] = []
    state = SimpleNamespace(log_history=[], global_step=0, max_steps=len(values) - 1, is_world_process_zero=False)
    trainer = SimpleNamespace(
        run=SimpleNamespace(path=Path("run")), save_model=lambda folder: kept.append(state.global_step)
    )
    keeper = KeepBest(trainer, metric, 2)
    for step, value in enumerate(values):
        control = SimpleNamespace(should_training_stop=False)
        state.global_step = step
        state.log_history += [{"step": step, "loss": 1.0}] + (
            [{"step": step, metric: value}] if value is not None else []
        )
        (keeper.on_step_end if step else keeper.on_train_begin)(None, state, control)
        if control.should_training_stop:
            return kept, step
    return kept, None


def test_the_best_point_is_kept_and_patience_ends_the_run():
    nan = float("nan")
    assert points([0.1, 0.3, 0.2, 0.2, 0.9]) == ([0, 1], 3)
    assert points([0.1, 0.1, 0.2, None, 0.2, 0.2, 0.5]) == ([0, 2], 5)  # a step without a point is not waited for
    assert points([nan, 0.1, nan, 0.2, 0.1]) == ([1, 3], None)
    assert points([0.3, 0.2, 0.1]) == ([0], None)  # the last step ends the run in any case


def test_a_run_that_lost_its_patience_is_not_trained_on_from_its_last_checkpoint(make_recipe, tiny_data, monkeypatch):
    """Killed between its last checkpoint and its final model: it ends where it would have ended."""
    more = {"data__dev": str(tiny_data["dev"]), "eval_every": 1, "best_by": "dev_plcc", "patience": 1, "save_every": 1}
    recipe = make_recipe("sft", steps=30, optimizer__learning_rate=0.02, **more)

    class Killed(Exception):
        pass

    save = RewardTrainer.save_model

    def save_all_but_the_last(self, folder, **more):
        if folder.endswith("/model"):
            raise Killed
        save(self, folder, **more)

    with monkeypatch.context() as patch:
        patch.setattr(RewardTrainer, "save_model", save_all_but_the_last)
        with pytest.raises(Killed):
            train(recipe)
    before = steps(recipe)
    assert 0 < len(before) < 30, "the curve never fell"
    last = RunDirectory(Path(recipe.out)).last_checkpoint()
    assert last is not None and last.name == f"checkpoint-{len(before)}"
    final = train(recipe, resume=True)
    assert steps(recipe) == before
    stored, made = (RewardModel.from_pretrained(folder).backbone.state_dict() for folder in (last, final))
    assert all(torch.equal(stored[name], weight) for name, weight in made.items())


def test_the_weights_of_the_best_point_are_those_of_its_step(make_recipe, tiny_data):
    more = {"data__dev": str(tiny_data["dev"]), "eval_every": 1, "best_by": "dev_plcc"}
    recipe = make_recipe("sft", steps=4, optimizer__schedule="constant", **more)
    train(recipe)
    curve = [(row["dev_plcc"], -row["step"]) for row in read_metrics(recipe.out) if "dev_plcc" in row]
    value, step = max(curve)[0], -max(curve)[1]
    assert read_best(Path(recipe.out)) == {"step": step, "metric": "dev_plcc", "value": value}
    best = RewardModel.from_pretrained(f"{recipe.out}/best").backbone.state_dict()
    if step == 0:
        expected = load_model(recipe).backbone.state_dict()
    else:
        short = make_recipe("sft", steps=step, optimizer__schedule="constant")
        expected = RewardModel.from_pretrained(train(replace(short, out=recipe.out + "-short"))).backbone.state_dict()
    assert all(torch.equal(best[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"best_by": "dev_auc"}, "best_by is 'dev_auc'; expected one of"),
        ({"best_by": "dev_hpa"}, "best_by is dev_hpa, a metric of the dev curve; set data.dev and eval_every"),
        ({"patience": 3}, "patience is 3; set best_by"),
        ({"patience": 0}, "patience is 0, expected more than 0"),
        ({"rollout": {"max_kl": 0.1}}, "with neither there is none to measure"),
        ({"rollout": {"stall_after": 0}}, "rollout.stall_after is 0.0, expected more than 0"),
    ],
)
def test_what_would_never_stop_a_run_is_refused(raw, message):
    with pytest.raises(InputError, match=message):
        config_from_dict(Recipe, {"method": "gdso", "out": "a", "data": {"train": "a"}, "model": {"name": "a"}} | raw)


def test_divergences_are_those_of_a_plain_loop(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    present, old, start = -torch.rand(3, 3, 4, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    monkeypatch.setattr(rollout_objectives, "sampled_tokens", lambda *_: (present, mask))
    found = divergences(
        None, SimpleNamespace(inputs=None, labels=None, ref_log_probs=start, old_log_probs=old), RolloutRecipe()
    )
    for name, other in (("reference_kl", start), ("policy_kl", old)):
        rows = []
        for m in range(3):
            terms = []
            for t in range(4):
                if mask[m, t]:
                    ratio = torch.exp(other[m, t] - present[m, t])
                    terms.append(ratio - 1 - torch.log(ratio))
            rows.append(sum(terms) / len(terms))
        assert found[name] == pytest.approx(float(sum(rows) / 3), rel=1e-12)


def test_a_kl_that_is_too_large_ends_the_run_and_names_the_checkpoint(make_recipe):
    more = {"rollout__updates_per_rollout": 2, "rollout__max_kl": 0.01, "save_every": 2}
    recipe = make_recipe("gdso", steps=8, optimizer__learning_rate=0.1, **more)
    with pytest.raises(FloatingPointError, match=r"policy_kl is \S+ per token, above rollout.max_kl \(0.01\)"):
        train(recipe)
    tame = make_recipe("gdso", steps=2, optimizer__learning_rate=1e-7, **more)
    train(replace(tame, out=recipe.out + "-tame"))
    logged = [row["policy_kl"] for row in read_metrics(recipe.out + "-tame") if "policy_kl" in row]
    assert len(logged) == 2 and all(0 <= kl < 1e-3 for kl in logged)


def test_a_run_that_fails_has_logged_every_step_and_names_its_last_good_checkpoint(make_recipe, in_step):
    def fail() -> None:
        raise FloatingPointError("planted")

    recipe = make_recipe("sft", steps=6, save_every=2)
    in_step(4, fail)
    with pytest.raises(FloatingPointError):
        train(recipe)
    assert [step for step, _ in steps(recipe)] == [1, 2, 3]
    trainer = SimpleNamespace(run=RunDirectory(Path(recipe.out)))
    assert RewardTrainer.last_good(trainer).endswith("checkpoint-2: continue from it with --resume")
    trainer = SimpleNamespace(run=RunDirectory(Path(recipe.out) / "other"))
    assert RewardTrainer.last_good(trainer) == "There is no checkpoint yet: start again"


@pytest.mark.parametrize(
    "before",
    [
        "import sys; sys.stderr.close()",
        "import sys; sys.stderr = None",
        "import io, sys; sys.stderr = io.StringIO()",
        "import os; os.close(2)",
        "from tqdm import tqdm; import threading; lock = tqdm.get_lock(); threading.Thread(target=lock.acquire).start()",
    ],
)
def test_what_hangs_is_ended_whatever_became_of_the_streams(before):
    """The last one is a thread that hangs while it writes beside a progress bar."""
    program = f"{before}\nimport time\nfrom zreward.common.watchdog import watchdog\nwith watchdog('x', 0.3, 'y'): time.sleep(30)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == EXIT_CODE
    assert "so this process is ended" in ended.stderr or "os.close" in before


def test_a_time_that_no_clock_measures_is_none(recwarn):
    """Its thread died with OverflowError, which pytest warns of."""
    with watchdog("x", 1e300, "y"):
        time.sleep(0.1)
    assert not recwarn.list


def test_what_hangs_is_ended_and_shows_where_it_hung():
    program = "\n".join(
        [
            "import time",
            "from zreward.common.watchdog import watchdog",
            "with watchdog('quick work', 0.3, 'go on'): pass",
            "def hang(): time.sleep(60)",
            "with watchdog('a roll-out', 0.3, 'continue with --resume'): hang()",
        ]
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == EXIT_CODE
    assert "in hang" in ended.stderr and "quick work" not in ended.stderr
    assert "a roll-out did not end within 0.3 seconds, so this process is ended; continue with --resume" in ended.stderr
