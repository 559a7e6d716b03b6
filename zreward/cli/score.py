"""Scores of a model: of images, of a data set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    Device,
    Dimensions,
    ImageField,
    Json,
    Model,
    PromptField,
    Reasoned,
    ScoringBatch,
    Seed,
    Shard,
    Temperature,
    Workers,
    check_new,
    check_source,
    check_suffix,
    check_target,
    job_of,
    load_model,
    names_of,
    one_of_engines,
    place_of,
    refuse_unused,
    sampling_of,
    save,
)
from zreward.common.errors import InputError
from zreward.common.jobs import is_first_of_all


def score(
    ctx: typer.Context,
    model: Model,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files or folders of images; a pictures.jsonl in a folder gives the prompt of each image."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", help="Text that the images were generated from; leave it out for a folder with pictures.jsonl."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Score the images of these records: .jsonl, .parquet, tar shards such as 'shards/{000..099}.tar', a folder, "
            "or a data set, hf:OWNER/NAME.",
        ),
    ] = None,
    prompt_field: PromptField = None,
    image_field: ImageField = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="New file for the scores: .csv, .jsonl or .parquet; with --data .parquet only."),
    ] = None,
    dimensions: Dimensions = None,
    batch_size: ScoringBatch = None,
    reference: Annotated[
        Path | None, typer.Option(help="Reference image, for models trained with rewarddance-pairwise.")
    ] = None,
    traces: Reasoned = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="With --data: rows that cannot be scored get the reason instead of a score; default: stop.",
        ),
    ] = False,
    shard: Shard = None,
    engine: Annotated[
        str,
        typer.Option(
            help="With --data: local, or ray: on all workers of a Ray cluster (RAY_ADDRESS, else this machine)."
        ),
    ] = "local",
    workers: Workers = None,
    device: Device = None,
    json_file: Json = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --data: check rows, model and --out without scoring.")
    ] = False,
) -> None:
    """Score images for a prompt, or a whole data set: mean, standard deviation and distribution per dimension.

    With --traces K the model reasons first, K times, and the standard deviation is split: within the traces (how far people
    differ) and between them (how far the model's own reasonings do).
    """
    from zreward.data.images import check_path
    from zreward.inference.contact_sheet import find_candidates
    from zreward.inference.scoring import SUFFIXES, print_scores, score_rows, write_scores

    if data:
        refuse_unused(ctx, "with --data: records name their images", "images", "prompt", "reference")
        refuse_unused(
            ctx, "with --data: `zreward label` scores records after reasoning", "traces", "temperature", "seed"
        )
        refuse_unused(ctx, "with --data, which writes to --out", "json_file")
        one_of_engines(engine, "local", "ray")
        if engine == "ray":
            refuse_unused(ctx, "with --engine ray, which shares the work itself", "shard")
        else:
            refuse_unused(ctx, "without --engine ray", "workers")
        cluster = engine == "ray"
        named = (prompt_field, image_field)
        _score_data(model, data, named, out, dimensions, batch_size, skip_bad, shard, cluster, workers, device, dry_run)
        return
    refuse_unused(ctx, "without --data: an image that cannot be read is an error", "skip_bad")
    refuse_unused(ctx, "without --data", "shard", "engine", "workers", "prompt_field", "image_field")
    refuse_unused(ctx, "without --data: images are checked before the model is loaded", "dry_run")
    if traces is not None:
        refuse_unused(ctx, "with --traces: a model that compares does not reason", "reference")
    sampling = sampling_of(ctx, traces, temperature, seed)
    check_target(json_file)
    check_suffix("--out", out, *SUFFIXES)
    check_new("--out", out)
    if not images:
        raise InputError("expected images or folders of images, and --prompt; or --data and --out")
    names = names_of(dimensions)
    files, prompts, notes = find_candidates(images, prompt)
    if reference:
        check_path(str(reference))
    for note in notes:
        typer.echo(note, err=True)
    loaded = load_model(model, device)
    beside = str(reference) if reference else None
    rows = score_rows(loaded, files, prompts, names, batch_size, beside, sampling)
    scale = loaded.rubric.scale
    if json_file != STDOUT:
        print_scores(rows, scale)
    if out:
        write_scores(out, rows)
        typer.echo(f"{out}: {len(rows):,} rows", err=json_file == STDOUT)
    if json_file:
        save(json_file, {"scale": scale.to_dict() | {"bins": scale.bins.tolist()}, "model": model, "scores": rows})


def _score_data(
    model, data, named, out, dimensions, batch_size, skip_bad, shard, cluster, workers, device, dry_run
) -> None:
    from zreward.inference.bulk import score_data

    if not out:
        raise InputError("--data goes with --out FILE.parquet")
    check_suffix("--out", out, ".parquet")
    source = check_source(data, *named)
    names, job = names_of(dimensions), job_of(shard)
    if dry_run:
        from zreward.inference.bulk_dry_run import check_inputs

        for line in check_inputs(model, source, out, names, skip_bad, job):
            typer.echo(f"checked: {line}")
        return
    if cluster:
        from zreward.common.ray_workers import run_jobs
        from zreward.inference.bulk_jobs import merge_scores, score_worker

        how = (names, batch_size, skip_bad)
        run_jobs(partial(score_worker, place_of(model), device, source.absolute(), out.absolute(), *how), workers)
        typer.echo(f"{out}: {merge_scores(out):,} rows")
        return
    loaded = load_model(model, device)
    if job is None:
        typer.echo(f"{out}: {score_data(loaded, source, out, names, batch_size, skip_bad):,} rows")
        return
    from zreward.inference.bulk_jobs import merge_scores, score_job

    total = score_job(loaded, source, out, job, names, batch_size, skip_bad)
    if shard is not None:
        typer.echo(f"part {job} of {out}: {total:,} rows")
    elif is_first_of_all(job):
        typer.echo(f"{out}: {merge_scores(out):,} rows")
