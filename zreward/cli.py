"""The command line: one thin command per arrow. Bad input ends with one clear message and exit code 2, without a traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zreward.errors import InputError
from zreward.studio.command import studio_app

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split(".")[0]
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: import.")
world_app = typer.Typer(no_args_is_help=True, help="The built-in world: make its data, pretrain its base models.")
app.add_typer(studio_app, name="studio")
app.add_typer(data_app, name="data")
app.add_typer(world_app, name="world")

STDOUT = Path("-")
EXTRAS = {
    "matplotlib": "report",
    "datasets": "datasets",
    "diffusers": "generation",
    "bitsandbytes": "quantized",
    "fastapi": "serve",
    "uvicorn": "serve",
    "httpx": "serve",
    "sqlalchemy": "studio",
    "alembic": "studio",
    "argon2": "studio",
    "itsdangerous": "studio",
    "python_multipart": "studio",
    "krippendorff": "studio",
}

Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this file; alone or with -, print it.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Temperature = Annotated[float, typer.Option(help="Sampling temperature of the traces; 0 is greedy.")]
Dimensions = Annotated[str | None, typer.Option("--dimensions", help="Names, separated by commas; default all.")]


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The text that the images were made from.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Records (.jsonl, .parquet) in place of images.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --data: the Parquet file to write.")] = None,
    dimensions: Dimensions = None,
    batch_size: Annotated[int, typer.Option(help="Images per forward pass.")] = 32,
    reference: Annotated[Path | None, typer.Option(help="Image to compare with, for models that compare.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --data: bad rows get no score, and the reason.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Score images for a prompt (mean, spread and distribution per dimension), or a whole data set into a Parquet file."""
    from zreward.data.images import check_path
    from zreward.scoring import print_scores, score_rows

    if data:
        _score_data(model, data, out, images, prompt, dimensions, batch_size, skip_bad)
        return
    _check_target(json_file)
    if not images or prompt is None:
        raise InputError("expected image files and --prompt, the text that they were made from; or --data and --out")
    if not prompt.strip():
        raise InputError("--prompt is empty; expected the text that the images were made from")
    for image in [*images, *([reference] if reference else [])]:
        check_path(str(image))
    loaded = _load(model)
    beside = str(reference) if reference else None
    rows = score_rows(loaded, [str(image) for image in images], prompt, _names(dimensions), batch_size, beside)
    scale = loaded.rubric.scale
    if json_file != STDOUT:
        print_scores(rows, scale)
    if json_file:
        _save(json_file, {"scale": scale.to_dict() | {"bins": scale.bins.tolist()}, "model": model, "scores": rows})


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    data: Annotated[Path, typer.Option("--data", help="Rated records, JSONL or Parquet.")],
    split: Annotated[str | None, typer.Option(help="Only records of this split.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Reason before scoring (teacher form).")] = False,
    traces: Annotated[int, typer.Option(help="Traces per item whose distributions are averaged.")] = 1,
    dimensions: Dimensions = None,
    temperature: Temperature = 1.0,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 16,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Run a model over rated records and print PLCC, SRCC, HPA, margin HPA, ties and calibration per dimension."""
    from zreward.data import load_records
    from zreward.evaluation import evaluate as run_evaluation
    from zreward.evaluation import print_table

    _check_target(json_file)
    if not reasoning and (traces != 1 or temperature != 1.0):
        raise InputError("--traces and --temperature go with --reasoning: the direct form samples nothing")
    loaded = _load(model)
    names = _names(dimensions)
    # With file and line in its messages; a part, or answers on another scale, are checked by the evaluation.
    rubric = None if names or loaded.forms.reference else loaded.rubric
    records = load_records(data, rubric, skip_bad=skip_bad, split=split)
    rows = run_evaluation(
        loaded,
        records,
        names,
        reasoning=reasoning,
        traces=traces,
        batch_size=batch_size,
        seed=seed,
        temperature=temperature,
    )
    if json_file != STDOUT:
        print_table(rows, f"{model} on {data}", loaded.rubric.scale)
    if json_file:
        _save(json_file, rows)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example optimizer.steps=10.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One step with tiny random weights of the architecture.")
    ] = False,
) -> None:
    """Train by a recipe: SFT, RewardDance (two forms), RISD, GRPO, GDSO or OPD."""
    from zreward.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        from zreward.training.dry_run import dry_run as run_dry

        typer.echo(run_dry(loaded))
        return
    from zreward.training.run import train as run_train

    typer.echo(f"final model: {run_train(loaded, resume)}")


@app.command()
def label(
    teacher: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    data: Annotated[Path, typer.Option("--data", help="Records to label; ratings in them are not read.")],
    out: Out,
    split: Annotated[str | None, typer.Option(help="Only records of this split.")] = None,
    traces: Annotated[int, typer.Option(help="Traces per item whose distributions are averaged.")] = 1,
    dimensions: Dimensions = None,
    direct: Annotated[bool, typer.Option("--direct", help="Let the teacher answer without reasoning.")] = False,
    temperature: Temperature = 1.0,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 16,
    shard_size: Annotated[int, typer.Option(help="Records per Parquet file.")] = 256,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a folder that holds some shards (also the default).")
    ] = False,
) -> None:
    """Write a teacher's distributions over a pool into Parquet shards; run it again to finish what was cut off."""
    from zreward.data import load_records
    from zreward.training.targets import LabelOptions
    from zreward.training.targets import label as run_label

    options = LabelOptions(traces, _names(dimensions), temperature, not direct, seed, shard_size, batch_size)
    loaded = _load(teacher)
    records = load_records(data, skip_bad=skip_bad, split=split)
    typer.echo(f"targets: {run_label(loaded, teacher, records, out, options)}")


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished steps of an earlier run in the folder.")
    ] = False,
) -> None:
    """The main job on the built-in world: data, teacher (GDSO), student (RISD), evaluation, report."""
    from zreward.demo import run_demo

    run_demo(out, seed, resume)


@app.command()
def reproduce(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value for every recipe, such as optimizer.steps=20.")
    ] = None,
    out: Out = Path("runs/reproduce"),
    only: Annotated[
        str, typer.Option(help="Parts, separated by commas: table2, table3, fig1, fig4, ablations.")
    ] = "table2,table3,fig1,fig4",
    methods: Annotated[
        str | None, typer.Option(help="Of the parts' methods only these, such as large-gdso, separated by commas.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds per method.")] = 3,
    world_seed: Annotated[int, typer.Option(help="Seed of prompts, scenes, raters and splits.")] = 0,
    dimensions: Annotated[str, typer.Option(help="Names, separated by commas, or all.")] = "alignment",
    jobs: Annotated[int, typer.Option(help="Tasks side by side, each with its share of the cores.")] = 2,
) -> None:
    """The paper's tables and curves on the built-in world; goes on where an earlier run in the folder stopped."""
    from zreward.reproduce import Study
    from zreward.reproduce import reproduce as run_study
    from zreward.world.base_models import world_rubric

    known = world_rubric().dimension_names
    names = known if dimensions == "all" else _names(dimensions) or ()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"dimensions {dimensions!r}: unknown {unknown}; expected some of {list(known)}, or all")
    study = Study(
        out, seeds, world_seed, names, _names(only) or (), tuple(overrides or ()), chosen=_names(methods) or ()
    )
    typer.echo(f"page: {run_study(study, jobs)}")


@app.command()
def optimize(
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example student=runs/demo/models/student.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
) -> None:
    """Let a reward model's gradient improve a text-to-image generator; guards stop it before it is hacked."""
    from zreward.config import load_config
    from zreward.generation.optimize import optimize as run_optimize
    from zreward.generation.recipe import OptimizeRecipe

    outcome = run_optimize(load_config(OptimizeRecipe, recipe, overrides or []), resume)
    typer.echo(f"{outcome.message}; generator: {outcome.model} (step {outcome.step})")


@app.command()
def rank(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them (with pictures.jsonl: of many prompts).")
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What they were made from; not with pictures.jsonl.")
    ] = None,
    dimensions: Dimensions = None,
    top: Annotated[int, typer.Option(help="Candidates printed of each prompt.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Images per forward pass.")] = 32,
    out: Annotated[Path | None, typer.Option("--out", help="Page with all candidates, best first.")] = None,
    json_file: Json = None,
) -> None:
    """Best of N: the candidates of each prompt, with the probability that each is the best."""
    from zreward.contact_sheet import find_candidates, print_ranking, write_contact_sheet
    from zreward.ranking import rank as rank_all

    _check_target(json_file)
    files, prompts = find_candidates(images, prompt)
    scores = _load(model).score(files, prompts, _names(dimensions), batch_size)
    ranked = rank_all(files, prompts, scores)
    if json_file != STDOUT:
        print_ranking(ranked, top)
    if out:
        typer.echo(f"page: {write_contact_sheet(out, ranked, model)}")
    if json_file:
        _save(json_file, [candidate.to_dict() for candidate in ranked])


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    max_batch: Annotated[int, typer.Option(help="Images per forward pass, and per request.")] = 32,
    max_wait: Annotated[float, typer.Option(help="Seconds that a request waits for company.")] = 0.01,
    max_queue: Annotated[int, typer.Option(help="Images that may wait; more are answered with 429.")] = 1024,
    dimensions: Dimensions = None,
    token: Annotated[
        str | None, typer.Option(envvar="ZREWARD_TOKEN", help="Bearer token that clients must send.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also POST / in pickle, on loopback only.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="Such as cuda; default: where the model loads to.")] = None,
) -> None:
    """Answer scores over HTTP: /v1/score, /compute, /get_reward, /health, /metrics, /docs."""
    from zreward.serving.server import serve as run_server
    from zreward.serving.settings import Settings

    settings = Settings(
        host,
        port,
        max_batch,
        max_wait,
        max_queue,
        token=token,
        dimensions=_names(dimensions) or (),
        allow_pickle=allow_pickle,
    )
    typer.echo(f"zreward serves {model} at http://{host}:{port} (documentation: /docs)")
    run_server(model, settings, device)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="Folder of pictures, with pictures.jsonl.")],
    after: Annotated[Path, typer.Argument(help="Folder of pictures of the same prompts and seeds.")],
    judge: Annotated[
        str | None, typer.Option(help="oracle (the built-in world's), or a reward model: folder or hub name.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="People judge: make a blind comparison in this studio project.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --study: what raters see; default: a number.")] = None,
    aspects: Annotated[
        str | None, typer.Option(help="With --study: overall, or dimensions, separated by commas.")
    ] = None,
    raters: Annotated[int, typer.Option(help="With --study: people who judge each pair.")] = 3,
    same: Annotated[float, typer.Option(help="A smaller difference, in score points, counts as the same.")] = 0.25,
    overall: Annotated[
        str | None, typer.Option(help="Dimensions whose mean decides, separated by commas; default all.")
    ] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="The judge reasons before it scores.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Page of the pairs, side by side.")] = None,
    json_file: Json = None,
) -> None:
    """Good, same or bad: two generators' pictures of the same prompts and seeds, pair by pair, by a judge or by people."""
    if (judge is None) == (study is None):
        raise InputError("expected --judge (oracle, or a reward model) or --study PROJECT (people), one of the two")
    if study is not None:
        from zreward.studio.study_creation import create_study

        typer.echo(create_study(study, before, after, name, _names(aspects) or (), raters))
        return
    assert judge is not None
    from zreward.generation.comparison import compare as run_compare
    from zreward.generation.comparison import read_pairs
    from zreward.generation.judges import load_judge
    from zreward.generation.pages import print_verdicts, write_comparison_page

    _check_target(json_file)
    pairs = read_pairs(before, after)
    found = run_compare(load_judge(judge, reasoning=reasoning), pairs, same, _names(overall) or ())
    if json_file != STDOUT:
        print_verdicts(found)
    if out:
        facts = {"before": str(before), "after": str(after)}
        typer.echo(f"page: {write_comparison_page(out, found, pairs, facts)}")
    if json_file:
        _save(json_file, found.to_dict())


@data_app.command("import")
def import_data(
    kind: Annotated[str, typer.Argument(help="The data set's layout: agiqa3k.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Argument(help="Folder or file for the records.")],
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
) -> None:
    """Turn a published data set into records; images stay where they are."""
    from zreward.data import import_agiqa3k

    if kind != "agiqa3k":
        raise InputError(f"data set layout {kind!r} is unknown; expected agiqa3k")
    typer.echo(f"records: {import_agiqa3k(root, out, seed=seed, skip_bad=skip_bad)}")


@world_app.command("data")
def world_data(out: Out, seed: Seed = 0) -> None:
    """Make the world's train, dev, pool and test records."""
    from zreward.world.dataset import make_world

    for name, path in make_world(out, seed).items():
        typer.echo(f"{name}: {path}")


@world_app.command("pretrain")
def world_pretrain(
    model: Annotated[str, typer.Argument(help="large, small or generator.")],
    out: Out,
    seed: Seed = 0,
) -> None:
    """Make a shipped model again from random weights (large: about two hours of one core; generator, small: under one)."""
    from zreward.world.base_models import SIZES

    if model in SIZES:
        from zreward.world.pretrain import CONFIGS, pretrain

        pretrain(CONFIGS[model].with_seed(seed), out)
    elif model == "generator":
        from zreward.world.drawing import DrawingConfig, pretrain_generator

        pretrain_generator(DrawingConfig(seed=seed), out)
    else:
        raise InputError(f"model {model!r} is unknown; expected one of {[*SIZES, 'generator']}")


def _score_data(model, data, out, images, prompt, dimensions, batch_size, skip_bad) -> None:
    from zreward.bulk import score_data

    if images or prompt or not out:
        raise InputError("--data goes with --out FILE.parquet, without image files and --prompt: records name theirs")
    total = score_data(_load(model), data, out, _names(dimensions), batch_size, skip_bad)
    typer.echo(f"{out}: {total:,} rows")


def _load(name: str):
    from zreward.models.reward_model import RewardModel
    from zreward.world.base_models import checkpoint_name

    return RewardModel.from_pretrained(checkpoint_name(name))


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def _check_target(path: Path | None) -> None:
    """InputError where --json would write over something that is not JSON: an image, a data set, a folder."""
    if path and path != STDOUT and path.suffix != ".json" and path.exists():
        raise InputError(f"--json {path} would overwrite what is there; name a new file, or put --json last to print")


def _save(path: Path, value: Any) -> None:
    from zreward.files import to_json, write_json

    if path == STDOUT:
        print(to_json(value))
    else:
        write_json(path, value)


def _with_json_target(arguments: list[str]) -> list[str]:
    """A `--json` that no file follows prints: the command line's library knows no option with an optional value."""
    following = [*arguments[1:], "--"]
    return [
        part
        for word, after in zip(arguments, following, strict=True)
        for part in ([word, str(STDOUT)] if word == "--json" and after.startswith("--") else [word])
    ]


def main() -> None:
    """Entry point: InputError, and files that cannot be read or written, become a message and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app(_with_json_target(sys.argv[1:]))
    except (InputError, FloatingPointError) as error:
        print(f"zreward: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = "studio" if sys.argv[1:2] == ["studio"] else EXTRAS[error.name]
        print(f"zreward: {error.name} is missing; pip install 'zreward[{extra}]'", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"zreward: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
