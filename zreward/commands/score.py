"""Scores of a model: of images, of a data set, beside people's ratings, ranked, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.commands.options import (
    STDOUT,
    Dimensions,
    Json,
    Seed,
    Temperature,
    check_suffix,
    check_target,
    load_model,
    names_of,
    save,
)
from zreward.errors import InputError


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
    from zreward.prompting import check_prompt
    from zreward.scoring import print_scores, score_rows

    if data:
        _score_data(model, data, out, images, prompt, dimensions, batch_size, skip_bad)
        return
    check_target(json_file)
    if not images or prompt is None:
        raise InputError("expected image files and --prompt, the text that they were made from; or --data and --out")
    check_prompt(prompt, "--prompt")
    for image in [*images, *([reference] if reference else [])]:
        check_path(str(image))
    loaded = load_model(model)
    beside = str(reference) if reference else None
    rows = score_rows(loaded, [str(image) for image in images], prompt, names_of(dimensions), batch_size, beside)
    scale = loaded.rubric.scale
    if json_file != STDOUT:
        print_scores(rows, scale)
    if json_file:
        save(json_file, {"scale": scale.to_dict() | {"bins": scale.bins.tolist()}, "model": model, "scores": rows})


def _score_data(model, data, out, images, prompt, dimensions, batch_size, skip_bad) -> None:
    from zreward.bulk import score_data

    if images or prompt or not out:
        raise InputError("--data goes with --out FILE.parquet, without image files and --prompt: records name theirs")
    total = score_data(load_model(model), data, out, names_of(dimensions), batch_size, skip_bad)
    typer.echo(f"{out}: {total:,} rows")


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
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with plots and the largest disagreements.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to this CSV file.")] = None,
    json_file: Json = None,
) -> None:
    """Run a model over rated records and print PLCC, SRCC, HPA, margin HPA, ties and calibration per dimension."""
    from zreward.data import load_records
    from zreward.evaluation import metrics_table, predict, print_table, rated_dimensions
    from zreward.runs import versions
    from zreward.tables import write_csv

    check_target(json_file)
    check_suffix("--html", html, ".html")
    check_suffix("--csv", csv, ".csv")
    if html:
        from zreward.report.evaluation import write_evaluation  # a missing extra is said before the model runs
    if not reasoning and (traces != 1 or temperature != 1.0):
        raise InputError("--traces and --temperature go with --reasoning: the direct form samples nothing")
    loaded = load_model(model)
    names = names_of(dimensions)
    # With file and line in its messages; a part, or answers on another scale, are checked by the evaluation.
    rubric = None if names or loaded.forms.reference else loaded.rubric
    records = load_records(data, rubric, skip_bad=skip_bad, split=split)
    predictions = predict(
        loaded,
        records,
        names or rated_dimensions(loaded, records),
        reasoning=reasoning,
        traces=traces,
        batch_size=batch_size,
        seed=seed,
        temperature=temperature,
    )
    rows = metrics_table(predictions, records)
    if json_file != STDOUT:
        print_table(rows, f"{model} on {data}", loaded.rubric.scale)
    if json_file:
        save(json_file, rows)
    if csv:
        typer.echo(f"table: {write_csv(csv, rows)}")
    if html:
        method = f"{traces} trace{'s' if traces > 1 else ''}" if reasoning else "direct"
        meta = {"model": model, "data": data, "records": len(records), "split": split or "all", "seed": seed}
        meta |= {"seconds": predictions.seconds, "versions": versions()}
        typer.echo(f"page: {write_evaluation(html, predictions, records, method, 'Evaluation', meta)}")


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

    check_target(json_file)
    files, prompts, notes = find_candidates(images, prompt)
    for note in notes:
        typer.echo(note, err=True)
    scores = load_model(model).score(files, prompts, names_of(dimensions), batch_size)
    ranked = rank_all(files, prompts, scores)
    if json_file != STDOUT:
        print_ranking(ranked, top)
    if out:
        typer.echo(f"page: {write_contact_sheet(out, ranked, model)}")
    if json_file:
        save(json_file, [candidate.to_dict() for candidate in ranked])


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
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda; default CUDA if any.")] = None,
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
        dimensions=names_of(dimensions) or (),
        allow_pickle=allow_pickle,
    )
    typer.echo(f"zreward serves {model} at http://{host}:{port} (documentation: /docs)")
    run_server(model, settings, device)
