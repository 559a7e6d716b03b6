"""Calibration: fit a checkpoint's spread to raters' scores, or take the calibration away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    BatchSize,
    Device,
    Json,
    Seed,
    SkipBad,
    Temperature,
    Traces,
    check_target,
    refuse_comparing,
    refuse_unsampled,
    refuse_unused,
    save,
)
from zreward.common.errors import InputError, shorten


def calibrate(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(help="Checkpoint folder; its zreward.json is written.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Rated records that it was not trained on (.jsonl, .parquet).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only the records of this split, such as dev; default: all.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="temperature: one number per dimension; ordinal: also moves the scores up or down.")
    ] = "temperature",
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Calibrate the scores after reasoning instead of the direct ones.")
    ] = False,
    traces: Traces = 1,
    temperature: Temperature = 1.0,
    batch_size: BatchSize = 16,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the calibration out of the checkpoint instead.")
    ] = False,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Fit a model's distributions to raters' scores, and store that in its zreward.json: `score` and `judge` then use it.

    The table compares before and after on prompts that the calibration did not see (five folds). Order within a prompt hardly
    changes; the spread does. RewardModel.from_pretrained(..., calibrated=False) gives the model's own distributions.
    """
    from zreward.models.checkpoint import read_meta, record_calibrations

    check_target(json_file)
    form = "reasoning" if reasoning else "direct"
    if remove:
        fitting = (
            "data",
            "split",
            "kind",
            "traces",
            "temperature",
            "batch_size",
            "seed",
            "skip_bad",
            "device",
            "json_file",
        )
        refuse_unused(ctx, "with --remove", *fitting)
        record_calibrations(model, form, None)
        typer.echo(f"{model}: {form} scores are those of the model again")
        return
    if data is None:
        raise InputError("--data FILE is missing: rated records that the model was not trained on")
    refuse_unsampled(ctx, reasoning, temperature, traces)

    from zreward.data import load_records
    from zreward.evaluation.calibrating import cross_fitted, fit
    from zreward.evaluation.calibration_table import calibration_rows, items_of, print_calibration
    from zreward.evaluation.prediction import predict, rated_dimensions
    from zreward.models.calibration import KINDS, Calibration
    from zreward.models.reward_model import RewardModel

    if kind not in KINDS:
        raise InputError(f"--kind {shorten(kind)!r} is unknown; expected one of {', '.join(KINDS)}")
    if read_meta(model) is None:
        raise InputError(
            f"{model} has no zreward.json, where a calibration is stored; save the model with save_pretrained first"
        )
    loaded = RewardModel.from_pretrained(model, device=device, calibrated=False)
    refuse_comparing(loaded)
    records = load_records(data, loaded.rubric, skip_bad=skip_bad, split=split)
    names = rated_dimensions(loaded, records)
    predictions = predict(loaded, records, names, reasoning, traces, batch_size, seed, temperature=temperature)
    items, bins = items_of(predictions, records), predictions.bins.double().numpy()
    maps = fit(items, kind)
    rows = [{"model": "before"} | row for row in calibration_rows(items, bins)]
    rows += [{"model": "after"} | row for row in calibration_rows(cross_fitted(items, kind), bins)]
    made_from = {"data": data.name, "split": split, "records": len(records), "dimensions": names}
    record_calibrations(model, form, Calibration(kind, maps, traces if reasoning else 0, made_from))
    if json_file != STDOUT:
        print_calibration(rows, f"{model} on {data}, {form}, on prompts left out of the fit")
        for name, one in maps.items():
            moved = f", shift {one.shift:+.3f}" if kind == "ordinal" else ""
            pairs = f", pair scale {one.pair_scale:.3f}" if one.pair_scale != 1 else ""
            typer.echo(f"{name}: temperature {one.temperature:.3f}{moved}{pairs}")
    if json_file:
        save(json_file, rows)
