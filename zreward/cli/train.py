"""Training: reward models, a teacher's targets for a student, a generator."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from zreward.cli.options import (
    BatchSize,
    Device,
    Dimensions,
    ImageField,
    Out,
    PromptField,
    Resume,
    Seed,
    Shard,
    SkipBad,
    Teacher,
    Temperature,
    Traces,
    Workers,
    check_source,
    is_endpoint,
    job_of,
    load_teacher,
    names_of,
    one_of_engines,
    place_of,
    refuse_unsampled,
    refuse_unused,
    say_usage,
)
from zreward.common.errors import InputError
from zreward.common.jobs import is_first_of_all

ALONE = 0.9  # share of a GPU's memory


def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; `zreward init` writes one.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe keys to change, as key=value: optimizer.steps=10.")
    ] = None,
    resume: Resume = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check data, rubric and folders, then train one step of a tiny random model."),
    ] = False,
) -> None:
    """Train a reward model by a recipe: SFT, RewardDance (two forms), RISD, GRPO, GDSO or OPD."""
    from zreward.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        refuse_unused(ctx, "with --dry-run, which starts from random weights", "resume")
        from zreward.training.checks import check_inputs
        from zreward.training.dry_run import dry_run as run_dry

        for line in check_inputs(loaded):
            typer.echo(f"checked: {line}")
        typer.echo(run_dry(loaded))
        return
    from zreward.training.run import train as run_train
    from zreward.training.stopping import BEST, read_best

    typer.echo(f"final model: {run_train(loaded, resume)}")
    best = read_best(Path(loaded.out))
    if best:
        where = Path(loaded.out) / BEST
        typer.echo(f"best by {best['metric']}: {where} (step {best['step']}, {best['value']:.4f})")


def label(
    ctx: typer.Context,
    teacher: Teacher,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Records to label: .jsonl, .parquet, tar shards such as 'shards/{000..099}.tar', a folder, or a data set, "
            "hf:OWNER/NAME. Their ratings are not read.",
        ),
    ],
    out: Out,
    prompt_field: PromptField = None,
    image_field: ImageField = None,
    split: Annotated[
        str | None, typer.Option(help="Label only the records of this split; default: all records.")
    ] = None,
    traces: Traces = 1,
    dimensions: Dimensions = None,
    direct: Annotated[bool, typer.Option("--direct", help="Score without reasoning.")] = False,
    temperature: Temperature = 1.0,
    batch_size: BatchSize = 16,
    shard_size: Annotated[int, typer.Option(min=1, help="Records per Parquet file.")] = 256,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    shard: Shard = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a folder that holds shards already; an empty one is an error.")
    ] = False,
    device: Device = None,
    engine: Annotated[
        str,
        typer.Option(
            help="What samples and scores: generate (transformers); vllm, which is much faster on GPUs; or ray: generate, on all "
            "workers of a Ray cluster (RAY_ADDRESS, else this machine)."
        ),
    ] = "generate",
    workers: Workers = None,
    vllm: Annotated[
        list[str] | None, typer.Option("--vllm", help="How vLLM is started, as key=value: max_length=4096; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check records, teacher and folder, and print the work ahead, without labelling."
        ),
    ] = False,
) -> None:
    """Score records with a teacher into Parquet shards, the targets of a student; run it again to continue."""
    from zreward.data.pool_check import PoolCheck
    from zreward.training.target_jobs import label_job, label_worker, merge_targets
    from zreward.training.targets import MANIFEST, LabelOptions
    from zreward.training.targets import label as run_label

    refuse_unsampled(ctx, not direct, temperature, traces, "with --direct")
    job = job_of(shard)
    begun = out if job is None else out / job.folder
    if resume and not (begun / MANIFEST).is_file():
        raise InputError(f"{begun}: nothing to resume, there is no {MANIFEST}; run without --resume first")
    source = check_source(data, prompt_field, image_field)
    one_of_engines(engine, "generate", "vllm", "ray")
    if engine != "ray":
        refuse_unused(ctx, "without --engine ray", "workers")
    elif is_endpoint(teacher):
        raise InputError(
            "--engine ray runs a model of the cluster; an endpoint answers many requests at once: leave it out"
        )
    if engine != "vllm":
        refuse_unused(ctx, "without --engine vllm", "vllm")
    else:
        refuse_unused(ctx, "with --engine vllm, which takes the first GPU that CUDA_VISIBLE_DEVICES shows", "device")
    options = LabelOptions(traces, names_of(dimensions), temperature, not direct, seed, shard_size, batch_size)
    if dry_run:
        from zreward.training.label_dry_run import check_inputs

        asked = engine == "vllm" or is_endpoint(teacher)
        model = _teacher(ctx, teacher, device, engine, vllm) if asked else None
        for line in check_inputs(teacher, source, out, options, split, skip_bad, job, model):
            typer.echo(f"checked: {line}")
        return
    if engine == "ray":
        refuse_unused(ctx, "with --engine ray, which shares the work itself", "shard")
        from zreward.common.ray_workers import run_jobs

        read = (source.absolute(), split, skip_bad)
        run_jobs(partial(label_worker, teacher, place_of(teacher), device, *read, out.absolute(), options), workers)
        typer.echo(f"targets: {merge_targets(out)}")
        return
    with PoolCheck(source, skip_bad, split) as check:
        loaded = _teacher(ctx, teacher, device, engine, vllm)
        records = check.records() if is_endpoint(teacher) else check  # what an endpoint answers costs money
        if job is None:
            made = run_label(loaded, teacher, records, out, options)
        else:
            made = label_job(loaded, teacher, records, out, options, job)
    say_usage(loaded)
    if shard is not None:
        typer.echo(f"part {job} of the targets: {made}")
    elif job is None:
        typer.echo(f"targets: {made}")
    elif is_first_of_all(job):
        typer.echo(f"targets: {merge_targets(out)}")


def _teacher(ctx: typer.Context, name: str, device: str | None, engine: str, options: list[str] | None) -> Any:
    """What labels: a model of this machine, one behind an endpoint, or one in vLLM."""
    if engine != "vllm":
        return load_teacher(ctx, name, device)
    from zreward.common.config import config_from_overrides
    from zreward.sampling.options import VllmOptions
    from zreward.sampling.teacher import VllmTeacher

    if is_endpoint(name):
        raise InputError("--engine vllm runs a model of this machine; an endpoint brings its own engine: leave it out")
    alone = [f"memory={ALONE}", *(options or [])]  # no trainer beside it
    return VllmTeacher.from_pretrained(name, config_from_overrides(VllmOptions, alone, "--vllm"))


def optimize(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; `zreward init` writes one.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe keys to change, as key=value: student=runs/demo/models/student.")
    ] = None,
    resume: Resume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check prompts, folders and the student without training.")
    ] = False,
) -> None:
    """Improve a text-to-image generator by a reward model's gradient; guards stop the run when the reward is hacked."""
    from zreward.common.config import load_config
    from zreward.generation.recipe import OptimizeRecipe

    loaded = load_config(OptimizeRecipe, recipe, overrides or [])
    if dry_run:
        refuse_unused(ctx, "with --dry-run, which trains nothing", "resume")
        from zreward.generation.checks import check_inputs

        for line in check_inputs(loaded):
            typer.echo(f"checked: {line}")
        return
    from zreward.generation.optimize import optimize as run_optimize

    outcome = run_optimize(loaded, resume)
    typer.echo(f"{outcome.message}; generator: {outcome.model} (step {outcome.step})")
