"""Scores of a model: of images, of a data set, beside people's ratings, ranked, over HTTP."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zreward.cli.options import (
    STDOUT,
    BatchSize,
    Device,
    Dimensions,
    ImageField,
    Json,
    Model,
    PromptField,
    ScoringBatch,
    Seed,
    Shard,
    SkipBad,
    Teacher,
    Temperature,
    Traces,
    Workers,
    check_new,
    check_source,
    check_suffix,
    check_target,
    job_of,
    load_model,
    load_teacher,
    names_of,
    one_of_engines,
    place_of,
    refuse_comparing,
    refuse_unsampled,
    refuse_unused,
    save,
    say_usage,
)
from zreward.common.errors import InputError
from zreward.common.jobs import Job, is_first_of_all

if TYPE_CHECKING:
    from zreward.evaluation.report.sections import Section


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
    """Score images for a prompt, or a whole data set: mean, standard deviation and distribution per dimension."""
    from zreward.data.images import check_path
    from zreward.inference.contact_sheet import find_candidates
    from zreward.inference.scoring import SUFFIXES, print_scores, score_rows, write_scores

    if data:
        refuse_unused(ctx, "with --data: records name their images", "images", "prompt", "reference")
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
    rows = score_rows(loaded, files, prompts, names, batch_size, beside)
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


def evaluate(
    ctx: typer.Context,
    model: Teacher,
    data: Annotated[Path, typer.Option("--data", help="Rated records, or preferences (.jsonl, .parquet).")],
    split: Annotated[
        str | None, typer.Option(help="Evaluate only the records of this split, such as test; default: all records.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Preferences: other pairs, on which the gap that counts as a tie is chosen.")
    ] = None,
    dev_split: Annotated[str | None, typer.Option(help="Only those pairs of --dev that are of this split.")] = None,
    tie_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, help="Preferences: the gap, in score points, up to which a tie is predicted, instead of --dev."
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(min=0, help="Preferences, --coupling: draws of prompts behind the intervals; 0: no intervals."),
    ] = 1000,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Let the model reason before it scores, as a teacher does.")
    ] = False,
    coupling: Annotated[
        bool,
        typer.Option(
            "--coupling",
            help="Let it reason, and test how far its score follows other and edited traces: a second table.",
        ),
    ] = False,
    editor: Annotated[
        str,
        typer.Option(
            help="With --coupling: what edits traces: words (English), or an editor that a package registers."
        ),
    ] = "words",
    traces: Traces = 1,
    dimensions: Dimensions = None,
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration",
            help="Also show how well the distributions and the raters' scores agree: coverage, spread, pairs.",
        ),
    ] = False,
    temperature: Temperature = 1.0,
    batch_size: BatchSize = 16,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write an HTML page with plots and the largest disagreements.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to this CSV file.")] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Compare a model with people's ratings, or with their votes on pairs: a table of metrics per dimension.

    PLCC and SRCC are the linear and the rank correlation. HPA is the share of same-prompt pairs that the model orders as
    people do; margin HPA counts pairs that people put more than half a point apart. Ties and calibration come with them.
    Of preferences: accuracy without and with ties, agreement with single votes, NLL, Brier score and ECE of the probability
    that a picture is better, the agreement of one person with the others, and 95 % intervals over prompts.
    The processes of torchrun or `accelerate launch` share the records.
    """
    from zreward.common.runs import versions
    from zreward.data import load_records
    from zreward.data.preference_files import holds_preferences
    from zreward.evaluation.calibration_table import calibration_rows, items_of, print_calibration
    from zreward.evaluation.prediction import metrics_table, predict, print_table, rated_dimensions
    from zreward.evaluation.tables import write_csv

    check_target(json_file)
    check_suffix("--html", html, ".html")
    check_suffix("--csv", csv, ".csv")
    if html:
        from zreward.evaluation.report.evaluation import (
            write_evaluation,  # a missing extra is said before the model runs
        )
    if coupling:
        from zreward.cli.coupling import check_coupling

        check_coupling(ctx, model, editor)
    else:
        refuse_unused(ctx, "without --coupling", "editor")
        refuse_unsampled(ctx, reasoning, temperature, traces)
    names, job = names_of(dimensions), Job.of_rank()
    if holds_preferences(data):
        from zreward.cli.preferences import Pairs, evaluate_preferences

        refuse_unused(ctx, "on preferences, which have no page", "html")
        refuse_unused(ctx, "on preferences, whose table holds Brier score and ECE already", "calibration")
        refuse_unused(ctx, "on preferences: it needs ratings", "coupling")
        how = {"reasoning": reasoning, "traces": traces, "batch_size": batch_size, "temperature": temperature}
        evaluate_preferences(
            partial(load_teacher, ctx, model, device),
            f"{model} on {data}",
            Pairs(data, split, skip_bad, dev, dev_split, tie_threshold, resamples),
            names,
            how | {"seed": seed, "job": job},
            csv,
            json_file,
        )
        return
    refuse_unused(ctx, "on records: it goes with preferences", "dev", "dev_split", "tie_threshold")
    if not coupling:
        refuse_unused(ctx, "on records without --coupling", "resamples")
    check_source(data)
    loaded = load_teacher(ctx, model, device)
    if calibration:
        refuse_comparing(loaded)
    # With file and line in its messages; a part, or answers on another scale, are checked by the evaluation.
    rubric = None if names or loaded.forms.reference else loaded.rubric
    records = load_records(data, rubric, skip_bad=skip_bad, split=split)
    asked_for, coupled = names or rated_dimensions(loaded, records), None
    if coupling:
        from zreward.evaluation.coupling import measure_coupling

        coupled = measure_coupling(loaded, records, asked_for, editor, temperature, batch_size, seed, job=job)
        predictions = coupled.predictions
    else:
        predictions = predict(
            loaded,
            records,
            asked_for,
            reasoning=reasoning,
            traces=traces,
            batch_size=batch_size,
            seed=seed,
            temperature=temperature,
            job=job,
        )
    asked = say_usage(loaded)
    if job is not None and job.number > 1:
        return
    rows = metrics_table(predictions, records)
    if json_file != STDOUT:
        print_table(rows, f"{model} on {data}", loaded.rubric.scale)
    if calibration:
        more = calibration_rows(items_of(predictions, records), predictions.bins.double().numpy())
        if json_file != STDOUT:
            print_calibration(more, "Calibration")
        found = {row["dimension"]: row for row in more}
        rows = [
            row | {key: value for key, value in found.get(row["dimension"], {}).items() if key not in row}
            for row in rows
        ]
    told: Any = rows
    sections: list[Section] = []
    if coupled:
        from zreward.cli.coupling import tell_coupling

        followed, section = tell_coupling(coupled, records, resamples, f"{model} on {data}", json_file == STDOUT)
        told, sections = {"metrics": rows, "coupling": followed}, [section]
    if json_file:
        save(json_file, told)
    if csv:
        typer.echo(f"table: {write_csv(csv, rows)}", err=json_file == STDOUT)
    if html:
        method = f"{traces} trace{'s' if traces > 1 else ''}" if reasoning or coupling else "direct"
        meta = {"model": model, "data": data, "records": len(records), "split": split or "all", "seed": seed}
        meta |= {"seconds": predictions.seconds, "versions": versions()} | asked
        page = write_evaluation(html, predictions, records, method, "Evaluation", meta, sections)
        typer.echo(f"page: {page}", err=json_file == STDOUT)


def rank(
    ctx: typer.Context,
    model: Model,
    images: Annotated[
        list[Path],
        typer.Argument(help="Image files or folders of images; a folder with pictures.jsonl may hold many prompts."),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", help="Text that the images were generated from; leave it out for a folder with pictures.jsonl."
        ),
    ] = None,
    dimensions: Dimensions = None,
    top: Annotated[int, typer.Option(min=1, help="Candidates to print per prompt.")] = 3,
    batch_size: ScoringBatch = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write an HTML page with all candidates, best first.")
    ] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Rank the candidates of each prompt (best of N), with the probability that each is the best."""
    from zreward.inference.contact_sheet import find_candidates, print_ranking, write_contact_sheet
    from zreward.inference.ranking import rank as rank_all

    check_target(json_file)
    check_suffix("--out", out, ".html", ".htm")
    if json_file == STDOUT:
        refuse_unused(ctx, "beside --json, which prints all candidates", "top")
    names = names_of(dimensions)
    files, prompts, notes = find_candidates(images, prompt)
    for note in notes:
        typer.echo(note, err=True)
    scores = load_model(model, device).score(files, prompts, names, batch_size)
    ranked = rank_all(files, prompts, scores)
    if json_file != STDOUT:
        print_ranking(ranked, top)
    if out:
        typer.echo(f"page: {write_contact_sheet(out, ranked, model)}", err=json_file == STDOUT)
    if json_file:
        save(json_file, [candidate.to_dict() for candidate in ranked])


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free port.")] = 8000,
    max_batch: Annotated[int, typer.Option(help="The most images in a batch, and in a request; 1 or more.")] = 32,
    max_wait: Annotated[float, typer.Option(help="Maximum batching delay in seconds.")] = 0.01,
    max_queue: Annotated[int, typer.Option(help="The most images that wait; further requests get status 429.")] = 1024,
    max_image_tokens: Annotated[
        int | None,
        typer.Option(help="The most tokens of one image; default: the model's own limit, else 1,280."),
    ] = None,
    max_prompt_tokens: Annotated[int, typer.Option(help="The most tokens of one prompt.")] = 1024,
    dimensions: Annotated[
        str | None,
        typer.Option(help="Dimensions, separated by commas, whose mean /compute and /get_reward return; default: all."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="ZREWARD_TOKEN", help="Bearer token that clients must send.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also accept pickled requests (POST /); loopback addresses only.")
    ] = False,
    device: Device = None,
) -> None:
    """Serve scores over HTTP: /v1/score, /compute, /get_reward, /health, /metrics, /docs."""
    from zreward.serving.server import serve as run_server
    from zreward.serving.settings import Settings

    if token is None and os.environ.get("ZREWARD_TOKEN") == "":
        token = ""  # the command line's library takes an empty variable for none at all
    settings = Settings(
        host,
        port,
        max_batch,
        max_wait,
        max_queue,
        max_image_tokens=max_image_tokens,
        max_prompt_tokens=max_prompt_tokens,
        token=token,
        dimensions=names_of(dimensions) or (),
        allow_pickle=allow_pickle,
    )
    run_server(model, settings, device)
