"""Templates to start from: a recipe of every method, a rubric, the thresholds of an audit."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from zreward.cli.options import check_new, check_suffix
from zreward.common.errors import InputError

RUBRIC_TEMPLATE = Path(__file__).parents[1] / "rubrics" / "template.yaml"
ABOUT = {
    "sft": "Supervised fine-tuning on the raters' histograms.",
    "rewarddance": "Annotated scores, each followed by a post-hoc chain (zreward label writes the chains).",
    "rewarddance-pairwise": "Pairs of pictures of one prompt: is this one better than the reference?",
    "risd": "A student learns a teacher's distributions (zreward label writes them), without reasoning.",
    "preference": "Votes on pairs of pictures, and ratings where there are some (data.rated).",
    "grpo": "A reasoning teacher, from the pointwise reward.",
    "gdso": "A reasoning teacher, from pointwise and pairwise rewards and direct losses.",
    "opd": "A student follows a teacher's log-probabilities on its own tokens.",
}
COMMON = {
    "data.train": "train.jsonl",
    "data.dev": "dev.jsonl",
    "model.name": "scratch:qwen3_5",
    "model.rubric": "rubric.yaml",
    "optimizer.steps": 200,
    "eval_every": 50,
}
OWN: dict[str, dict[str, Any]] = {
    "rewarddance": {"data.targets": "targets"},
    "risd": {"data.targets": "targets"},
    "preference": {"data.train": "preferences.jsonl"},
    "opd": {"rollout.teacher": "runs/my-gdso/model"},
}
OPTIMIZE = {
    "student": "runs/my-risd/model",
    "out": "runs/my-generator",
    "prompts": "prompts.txt",
    "held_out": "held-out.txt",
    "generator.name": "world:generator",
}


def init(
    kind: Annotated[
        str,
        typer.Argument(help=f"Kind of template: rubric, audit, optimize, or a training method: {', '.join(ABOUT)}."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="New file to write; default: recipe.yaml, rubric.yaml or audit.yaml.")
    ] = None,
) -> None:
    """Write a commented template: a recipe that explains every key, a rubric, or the thresholds of `audit`."""
    from zreward.common.files import write_text

    path = out or Path(f"{kind}.yaml" if kind in ("rubric", "audit") else "recipe.yaml")
    check_suffix("--out", path, ".yaml", ".yml")
    if not str(path).isprintable():  # the file names itself in a comment, which ends with the line
        raise InputError(f"--out {str(path)!a}: expected a name on one line, without control characters")
    text = text_of(kind, path)
    check_new("--out", path)
    write_text(path, text)
    typer.echo(f"{path}: written; {_next(kind, path)}")


def text_of(kind: str, path: Path) -> str:
    """The template; InputError for an unknown kind."""
    if kind == "rubric":
        return RUBRIC_TEMPLATE.read_text(encoding="utf-8")
    from zreward.cli.templates import template

    if kind == "audit":
        from zreward.audit.thresholds import Thresholds

        header = [
            f"zreward audit MODEL --data FILE --out FOLDER --thresholds {quote(str(path))}",
            "What is accepted of a reward model. Points are those of a scale from 1 to 5.",
        ]
        return template(Thresholds, {}, header)
    if kind == "optimize":
        from zreward.generation.recipe import OptimizeRecipe

        header = [
            f"zreward optimize {quote(str(path))}",
            "A generator follows the student's gradient; guards stop the run when the reward is hacked.",
        ]
        return template(OptimizeRecipe, OPTIMIZE, header)
    if kind not in ABOUT:
        raise InputError(
            f"template {kind!r} is unknown; expected one of {', '.join(['rubric', 'audit', 'optimize', *ABOUT])}"
        )
    from zreward.training.recipe import Recipe

    values = {"method": kind, "out": f"runs/my-{kind}"} | COMMON | OWN.get(kind, {})
    return template(Recipe, values, [f"zreward train {quote(str(path))}", ABOUT[kind]])


def _next(kind: str, path: Path) -> str:
    if kind == "rubric":
        return f"edit it, then: zreward rubric check {quote(str(path))}"
    if kind == "audit":
        return f"edit it, then: zreward audit MODEL --data FILE --out FOLDER --thresholds {quote(str(path))}"
    if kind == "optimize":
        return f"edit it, then: zreward optimize {quote(str(path))} --dry-run"
    return f"edit it, then: zreward train {quote(str(path))} --dry-run"
