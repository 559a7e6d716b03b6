"""A model beside people's ratings, or their votes on pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zreward.cli.options import (
    STDOUT,
    BatchSize,
    Device,
    Dimensions,
    Json,
    Seed,
    SkipBad,
    Teacher,
    Temperature,
    Traces,
    check_source,
    check_suffix,
    check_target,
    load_teacher,
    names_of,
    refuse_comparing,
    refuse_unsampled,
    refuse_unused,
    save,
    say_usage,
)
from zreward.common.jobs import Job

if TYPE_CHECKING:
    from zreward.evaluation.report.sections import Section


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
    from zreward.models.teacher import check_takes

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
    check_takes(loaded, "evaluation of an endpoint", records)
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
