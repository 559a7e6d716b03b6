"""The whole pipeline on the built-in world: `zreward demo`.

Data -> SFT and GDSO on the large model -> the teacher labels the pool -> SFT and RISD on the small model -> everything and
zero-shot on the test set -> the world's generator follows the student -> metrics.json, a table and report.html.
Hyper-parameters are those of recipes/world-*.yaml, chosen on dev prompts; the test set is evaluated once, at the end.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from zreward.common.errors import InputError
from zreward.common.files import atomic_path, write_json
from zreward.common.runs import RunDirectory, read_metrics, say, versions
from zreward.data import Record, load_records
from zreward.evaluation.prediction import Predictions, metrics_table, predict, print_table, rated_items
from zreward.evaluation.report import ExampleDimension, ReportExample, write_report
from zreward.evaluation.report.sections import Section
from zreward.evaluation.tables import POOLED
from zreward.models.finished import check_left
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.resuming import is_finished
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world.base_models import load_base
from zreward.world.dataset import make_world
from zreward.world.settings import DIRECT_BATCH, REASONING_BATCH, TEMPERATURE, recipe_file

EXAMPLES = 6


def run_demo(out: Path, seed: int = 0, resume: bool = False) -> list[dict[str, Any]]:
    """Run the whole pipeline into `out`; returns the rows of metrics.json.

    Raises InputError when `out` is in use and `resume` is not given; with `resume`, finished steps are kept, and a finished
    demo is left alone.
    """
    run = RunDirectory(out, "data/panel.json", "--out")
    with run.hold():
        if not resume:
            run.check({}, resume=False)
        return _run(run, seed)


def _run(run: RunDirectory, seed: int) -> list[dict[str, Any]]:
    out = run.path
    begin = time.perf_counter()
    paths = {name: out / "data" / f"{name}.parquet" for name in ("train", "dev", "pool", "test")}
    if not run.is_started:  # the panel is written last
        paths = make_world(out / "data", seed)
    elif (made := run.read_config()["seed"]) != seed:
        raise InputError(f"{out} was made with seed {made}; continue with seed {made}, not with seed {seed}")
    if (out / "demo.json").exists():  # written last
        _check_models(out)
        say(f"{out} is finished: nothing to do; its page is {out / 'report.html'}")
        return json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    transformers_logging.disable_progress_bar()  # one for every small file would hide ours
    demo = _Demo(out, seed, paths)
    demo.train("sft", "large", "sft-large")
    teacher = demo.train("gdso", "large", "gdso-large")
    _publish(teacher, out / "models" / "teacher")
    demo.label_pool(out / "models" / "teacher")
    demo.train("sft", "small", "sft-small")
    student = demo.train("risd", "small", "risd-small", targets=out / "targets")
    _publish(student, out / "models" / "student")
    results = demo.evaluate()
    rows = [row for _, table in results for row in table]
    write_json(out / "metrics.json", rows)
    records = load_records(paths["test"])
    pooled = [row for row in rows if row["dimension"] == "all"]
    print_table(pooled, f"The built-in world, seed {seed}: all dimensions pooled", load_base("small").rubric.scale)
    generation = demo.improve_generator()
    seconds = time.perf_counter() - begin
    demo.report(results, records, seconds, generation)
    write_json(out / "demo.json", {"seed": seed, "seconds": seconds, "versions": versions()})
    print(f"report: {out / 'report.html'}   metrics: {out / 'metrics.json'}   {seconds / 60:.1f} minutes")
    return rows


Result = tuple[tuple[str, str, Predictions], list[dict[str, Any]]]


class _Demo:
    def __init__(self, out: Path, seed: int, paths: dict[str, Path]) -> None:
        self.out, self.seed, self.paths = out, seed, paths

    def train(self, method: str, size: str, name: str, targets: Path | None = None) -> Path:
        """Train by recipes/world-METHOD.yaml, or go on with a run that was cut off; returns the model's folder."""
        run = self.out / "runs" / name
        recipe = self._recipe(method, size, run, targets)
        if is_finished(run):
            check_left(run / "model", f"delete {run / 'model'} and use --resume, which writes it again")
            return run / "model"
        print(f"\n== {method} on the {size} model ({recipe.optimizer.steps} steps)", flush=True)
        return train(recipe, resume=(run / "recipe.yaml").exists())

    def _recipe(self, method: str, size: str, run: Path, targets: Path | None) -> Recipe:
        recipe = load_recipe(recipe_file(f"world-{method}"))
        data = replace(
            recipe.data,
            train=str(self.paths["pool" if method == "risd" else "train"]),
            dev=str(self.paths["dev"]),
            targets=str(targets) if targets else None,
        )
        model = replace(recipe.model, name=f"world:{size}")
        return replace(recipe, out=str(run), seed=self.seed, data=data, model=model)

    def label_pool(self, teacher: Path) -> None:
        print("\n== the teacher labels the pool", flush=True)
        model = RewardModel.from_pretrained(teacher)
        options = LabelOptions(temperature=TEMPERATURE, seed=self.seed, batch_size=REASONING_BATCH)
        label(model, str(teacher), load_records(self.paths["pool"]), self.out / "targets", options)

    def evaluate(self) -> list[Result]:
        """Every model once on the test set, in the order of the table."""
        print("\n== test set", flush=True)
        records = load_records(self.paths["test"])
        runs = self.out / "runs"
        plan: list[tuple[str, str, bool, Callable[[], RewardModel]]] = [
            ("large", "zero-shot", False, lambda: load_base("large")),
            ("large", "zero-shot-reasoning", True, lambda: load_base("large")),
            ("large", "sft", False, lambda: RewardModel.from_pretrained(runs / "sft-large" / "model")),
            ("large", "gdso", True, lambda: RewardModel.from_pretrained(self.out / "models" / "teacher")),
            ("small", "zero-shot", False, lambda: load_base("small")),
            ("small", "zero-shot-reasoning", True, lambda: load_base("small")),
            ("small", "sft", False, lambda: RewardModel.from_pretrained(runs / "sft-small" / "model")),
            ("small", "risd", False, lambda: RewardModel.from_pretrained(self.out / "models" / "student")),
        ]
        results = []
        for size, method, reasoning, load in plan:
            batch = REASONING_BATCH if reasoning else DIRECT_BATCH
            predictions = predict(
                load(), records, reasoning=reasoning, batch_size=batch, seed=self.seed, temperature=TEMPERATURE
            )
            table = [{"model": size, "method": method} | row for row in metrics_table(predictions, records)]
            results.append(((size, method, predictions), table))
        return results

    def improve_generator(self) -> list[Section]:
        """The last step; without the extra `generation` it is left out, and the terminal says so."""
        if find_spec("diffusers") is None:
            print("\n== no generator: diffusers is missing; pip install 'zreward[generation]'", flush=True)
            return []
        from zreward.world.demo_generation import improve_generator

        return improve_generator(self.out / "models" / "student", self.out / "runs" / "optimize", self.seed)

    def report(self, results: list[Result], records: list[Record], seconds: float, generation: list[Section]) -> None:
        scale = results[0][0][2].scale
        scatter, calibration = {}, {}
        for (size, method, predictions), _ in results:
            items = rated_items(predictions, records)[POOLED]
            scatter[f"{size} {method}"] = (items.target, items.pred)
            if method in ("zero-shot", "gdso", "risd"):
                calibration[f"{size} {method}"] = (items.probs, items.counts)
        write_report(
            self.out / "report.html",
            title="zreward: rated images to a one-token student",
            rows=[row for _, table in results for row in table],
            scatter=scatter,
            curves=self._curves(),
            calibration=calibration,
            examples=self._examples(results, records),
            rubric_scale=scale,
            notes=[
                "The built-in world: every picture's true defects are known, seven of nine simulated raters judged the "
                "test set; one of the nine is careless.",
                "zero-shot is the base model in the direct form, zero-shot-reasoning after a sampled trace.",
                f"Traces are sampled at temperature {TEMPERATURE:g} for labelling and evaluation, at 1 for training.",
                "The teacher (large, gdso) reasons before it scores; the student (small, risd) answers in one token.",
            ],
            meta={
                "command": f"zreward demo --out {self.out} --seed {self.seed}",
                "seed": self.seed,
                "duration": seconds,
            }
            | {"versions": versions()},
            sections=generation,
        )

    def _curves(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        curves: dict[str, dict[str, list[tuple[float, float]]]] = {"HPA on dev prompts": {}, "training loss": {}}
        names = {
            "sft-large": "large sft",
            "gdso-large": "large gdso",
            "sft-small": "small sft",
            "risd-small": "small risd",
        }
        for run, name in names.items():
            steps = read_metrics(self.out / "runs" / run)
            curves["HPA on dev prompts"][name] = [(r["step"], r["dev_hpa"]) for r in steps if "dev_hpa" in r]
            curves["training loss"][name] = [(r["step"], r["loss"]) for r in steps if "loss" in r]
        return curves

    def _examples(self, results: list[Result], records: list[Record]) -> list[ReportExample]:
        """A few test images, drawn by the seed, with distributions and the teacher's trace; also as files to try out."""
        chosen = random.Random(self.seed).sample(range(len(records)), EXAMPLES)
        shown = [records[i] for i in chosen]
        teacher = RewardModel.from_pretrained(self.out / "models" / "teacher")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            judged = teacher.judge([r.image for r in shown], [r.prompt for r in shown], temperature=TEMPERATURE)
        examples: list[ReportExample] = []
        folder = self.out / "examples"
        for index, record, judgement in zip(chosen, shown, judged, strict=True):
            dimensions = {}
            for d, name in enumerate(teacher.rubric.dimension_names):
                said = {"teacher": judgement.distribution.probs[0, d].tolist()}
                for (size, method, predictions), _ in results:
                    if (size, method) in (("small", "risd"), ("small", "sft")):
                        said["student" if method == "risd" else "small sft"] = predictions.probs[index, d].tolist()
                dimensions[name] = ExampleDimension(record.ratings(name), said, judgement.traces[name][0])
            picture = record.open_image()
            with atomic_path(folder / f"{len(examples)}.png") as temporary:
                picture.save(temporary, format="PNG")
            examples.append(ReportExample(picture, record.prompt, dimensions))
        return examples


def _check_models(out: Path) -> None:
    """InputError where a model of a finished demo is no longer whole."""
    for folder in [out / "models" / "teacher", out / "models" / "student", *sorted((out / "runs").glob("*-*/model"))]:
        check_left(folder, f"delete {folder} and {out / 'demo.json'} and use --resume, which writes it again")


def _publish(model: Path, place: Path) -> None:
    """Put a run's final model where users look for it."""
    if not (place / "zreward.json").exists():
        RewardModel.from_pretrained(model).save_pretrained(place)
