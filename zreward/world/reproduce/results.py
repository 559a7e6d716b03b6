"""From finished tasks to tables (Markdown, CSV, JSON), figures (PNG) and one HTML page."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from zreward.common.files import write_json, write_text
from zreward.common.runs import read_metrics, versions
from zreward.data import Record, load_records
from zreward.evaluation.prediction import metrics_table
from zreward.evaluation.report.sections import Section, write_sections
from zreward.evaluation.tables import POOLED, UNDEFINED, format_value
from zreward.world.reproduce.plan import ABLATIONS, BESIDE, METHODS, StudyMethod, StudyPlan
from zreward.world.reproduce.statistics import PairTally, mean_curve, paired_interval, steps_to_reach, tally
from zreward.world.reproduce.tasks import load_prediction, prediction_file, run_folder, study_recipe

TABLE2 = ("plcc", "srcc", "hpa", "margin_hpa", "tie_rate", "nll", "crps")
TABLE3 = ("hpa", "margin_hpa", "output_tokens", "seconds")
TITLES = {
    "plcc": "PLCC",
    "srcc": "SRCC",
    "hpa": "HPA",
    "margin_hpa": "margin HPA",
    "tie_rate": "ties",
    "nll": "NLL",
    "crps": "CRPS",
    "output_tokens": "tokens",
    "seconds": "ms an image",
}
PAPER_COLUMNS = ("plcc", "srcc", "hpa", "margin_hpa")
PAPER: dict[tuple[str, str], tuple[float | None, ...]] = {
    ("large", "zero-shot"): (0.6301, 0.5816, 0.7438, 0.9538),
    ("large", "sft"): (0.6458, 0.5914, 0.8135, 0.9644),
    ("large", "rewarddance"): (0.6667, 0.6207, 0.8425, 0.9706),
    ("large", "grpo"): (0.7200, 0.6832, 0.8604, 0.9827),
    ("large", "gdso"): (0.7620, 0.7132, 0.8956, 0.9885),
    ("small", "zero-shot"): (0.3411, 0.3167, 0.6563, 0.7501),
    ("small", "sft"): (0.5296, 0.4942, 0.7459, 0.8401),
    ("small", "rewarddance"): (0.5182, 0.4338, 0.7817, 0.8972),
    ("small", "grpo"): (0.5340, 0.5072, 0.7703, 0.9076),
    ("small", "gdso"): (0.6341, 0.5665, 0.8395, 0.9599),
    ("small", "opd"): (None, None, 0.8311, 0.9643),
    ("small", "risd"): (0.7391, 0.6882, 0.8864, 0.9801),
}
"""The paper's Tables 2 and 3 (27B and 9B, its internal test set), in the order of PAPER_COLUMNS."""
CLAIMS = (
    ("large-gdso", "large-grpo"),
    ("large-grpo", "large-sft"),
    ("large-sft", "large-zero-shot"),
    ("large-gdso", "large-rewarddance"),
    ("large-grpo", "large-grpo-parsed"),
    ("large-gdso", "large-gdso-parsed"),
    ("small-risd", "small-opd"),
    ("small-risd", "small-gdso"),
    ("small-risd", "small-sft"),
    ("small-risd", "large-gdso"),
)
"""Differences that the paper speaks of; the last one should be near zero."""


def write_results(study: StudyPlan) -> Path:
    """Write everything into `study.out`; returns the page."""
    records = load_records(study.out / "data" / "test.parquet")
    methods = predicted(study)
    measured = {method.key: _measure(study, method, records) for method in methods}
    rows = [_row(method, measured[method.key][0]) for method in methods]
    sections = []
    tables = {"table2": (TABLE2, METHODS), "table3": (TABLE3, METHODS), "ablations": (TABLE2, ABLATIONS)}
    for part, (columns, family) in tables.items():
        if part in study.parts:
            of_part = {method.key for method in family if part in method.parts} | set(BESIDE.get(part, ()))
            chosen = [row for row in rows if f"{row['model']}-{row['method']}" in of_part]
            sections.append(_write_table(study.out, part, columns, chosen))
    tallies = {key: found[1] for key, found in measured.items()}
    if set(study.parts) != {"ablations"}:
        sections.append(_write_claims(study.out, tallies))
    sections += _figures(study)
    write_json(study.out / "versions.json", versions())
    settings = {
        "world seed": study.world_seed,
        "seeds": study.seeds,
        "dimensions": ", ".join(study.dimensions),
        "test pairs": int(next(iter(tallies.values()))[0].total.sum()),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    return write_sections(
        study.out / "study.html",
        "zreward: the paper's comparison on the built-in world",
        settings,
        sections,
        written_by="zreward reproduce",
    )


def predicted(study: StudyPlan) -> list[StudyMethod]:
    """Methods that have answered the test set with every seed, in this run or an earlier one in the folder."""
    every = (*METHODS, *ABLATIONS)
    return [m for m in every if all(prediction_file(study, m, seed).exists() for seed in range(study.seeds))]


def _measure(
    study: StudyPlan, method: StudyMethod, records: list[Record]
) -> tuple[list[dict[str, Any]], list[PairTally]]:
    """The pooled metrics row and the pairs of every seed."""
    rows, tallies = [], []
    for seed in range(study.seeds):
        predictions = load_prediction(study, method, seed)
        row = next(row for row in metrics_table(predictions, records) if row["dimension"] == POOLED)
        rows.append(row | {"seconds": predictions.seconds / len(records) / len(study.dimensions)})
        tallies.append(tally(predictions, records))
    return rows, tallies


def _row(method: StudyMethod, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and under "spread" their sample standard deviation (zero for one seed)."""
    keys = dict.fromkeys((*TABLE2, *TABLE3))
    values = {key: np.array([row[key] for row in rows], dtype=float) for key in keys}
    return (
        {"model": method.size, "method": method.name}
        | {key: float(found.mean()) for key, found in values.items()}
        | {"spread": {key: float(found.std(ddof=1)) if len(found) > 1 else 0.0 for key, found in values.items()}}
        | {"seeds": len(rows)}
    )


def _write_table(out: Path, part: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Section:
    """PART.json, PART.csv, PART.md."""
    names = ["model", "method", *columns]
    kept = [
        {k: row[k] for k in names} | {"spread": {c: row["spread"][c] for c in columns}, "seeds": row["seeds"]}
        for row in rows
    ]
    write_json(out / f"{part}.json", kept)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*names, *(f"{c}_spread" for c in columns), "seeds"])
    writer.writerows([*(row[n] for n in names), *(row["spread"][c] for c in columns), row["seeds"]] for row in kept)
    write_text(out / f"{part}.csv", text.getvalue())
    with_paper = part != "ablations"
    shown = [c for c in PAPER_COLUMNS if c in columns] if with_paper else []
    head = ["model", "method", *(TITLES[c] for c in columns), *_paper_head(shown)]
    lines = [
        [row["model"], row["method"], *(with_spread(c, row) for c in columns), *_paper_cells(row, shown)]
        for row in rows
    ]
    write_text(out / f"{part}.md", _markdown(head, lines))
    titles = {
        "table2": "Table 2: agreement with people",
        "table3": "Table 3: agreement and cost",
        "ablations": "Ablations",
    }
    note = "Means over seeds and their standard deviation; the test set of the built-in world."
    if with_paper:
        note += " The paper's own figures are shown beside ours: other models (27B, 9B), another test set."
    return Section(titles[part], note, head, lines)


def _paper_head(columns: list[str]) -> list[str]:
    titles = [TITLES[column] for column in columns]
    return [f"paper: {titles[0]}", *titles[1:]] if titles else []


def _paper_cells(row: dict[str, Any], columns: list[str]) -> list[str]:
    """The paper's figures of the same method, where it has them."""
    figures = dict(zip(PAPER_COLUMNS, PAPER.get((row["model"], row["method"]), (None,) * 4), strict=True))
    return [format_value(figures[column], 3) for column in columns]


def with_spread(column: str, row: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds; the value alone where there is one seed."""
    value, spread = row[column], row["spread"][column]
    if column == "seconds":
        value, spread = 1000 * value, 1000 * spread
    digits = 1 if column in ("output_tokens", "seconds") else 3
    mean = format_value(value, digits)
    return mean if row["seeds"] == 1 or mean == UNDEFINED else f"{mean} ± {spread:.{digits}f}"


def _write_claims(out: Path, tallies: dict[str, list[PairTally]]) -> Section:
    """claims.json and claims.md: every difference that could be measured, with its interval."""
    rows: list[dict[str, Any]] = []
    for first, second in CLAIMS:
        if first in tallies and second in tallies:
            difference, low, high = paired_interval(tallies[first], tallies[second])
            rows.append({"first": first, "second": second, "difference": difference, "low": low, "high": high})
    write_json(out / "claims.json", rows)
    head = ["HPA of", "minus", "difference", "95 % interval"]
    lines: list[list[str]] = [
        [r["first"], r["second"], f"{100 * r['difference']:+.1f}", f"{100 * r['low']:+.1f} to {100 * r['high']:+.1f}"]
        for r in rows
    ]
    write_text(out / "claims.md", _markdown(head, lines))
    return Section("Differences", "Points of HPA; hierarchical bootstrap over seeds and test prompts.", head, lines)


def _figures(study: StudyPlan) -> list[Section]:
    """fig1.png and fig4.png from the dev curves, and how many roll-outs the teacher methods needed."""
    sections = []
    for part, title in (
        ("fig1", "Figure 1: HPA on dev prompts over training"),
        ("fig4", "Figure 4: expectation and parsed"),
    ):
        if part not in study.parts:
            continue
        curves = {
            method.key: _curve(study, method) for method in study.methods if part in method.parts and method.recipe
        }
        note = "Means over seeds."
        if part == "fig1":
            note += " " + _efficiency(study, curves)
        sections.append(
            Section(
                title,
                note,
                value="HPA, dev prompts",
                curves={key.replace("-", " ", 1): c for key, c in curves.items()},
                picture=study.out / f"{part}.png",
            )
        )
    return sections


def _curve(study: StudyPlan, method: StudyMethod) -> list[tuple[int, float]]:
    found = []
    for seed in range(study.seeds):
        steps = read_metrics(run_folder(study, method, seed))
        found.append([(int(row["step"]), float(row["dev_hpa"])) for row in steps if "dev_hpa" in row])
    return mean_curve(found)


def _efficiency(study: StudyPlan, curves: dict[str, list[tuple[int, float]]]) -> str:
    """Steps and roll-outs until GRPO's final dev HPA; also efficiency.json."""
    if not curves.get("large-grpo"):
        return ""
    level, found = curves["large-grpo"][-1][1], {}
    for method in study.methods:
        if method.reasoning and method.key in curves:
            step = steps_to_reach(curves[method.key], level)
            per_step = _rollouts_per_step(study, method)
            found[method.key] = {"steps": step, "rollouts": None if step is None else step * per_step}
    write_json(study.out / "efficiency.json", {"grpo_final_dev_hpa": level, "methods": found})
    parts = [
        f"{key} {v['steps']} steps ({v['rollouts']} roll-outs)" for key, v in found.items() if v["steps"] is not None
    ]
    return f"GRPO's last value, {level:.3f}, is reached by " + ", ".join(parts) + "."


def _rollouts_per_step(study: StudyPlan, method: StudyMethod) -> int:
    from zreward.world.reproduce.plan import StudyTask

    recipe = study_recipe(study, StudyTask("", "train", 0, method))
    return 2 * recipe.optimizer.batch_size * recipe.optimizer.gradient_accumulation * recipe.rollout.group_size


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
