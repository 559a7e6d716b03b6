"""The robustness card: what moves a reward that should not, with thresholds for a test of one's own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    BatchSize,
    Device,
    Json,
    Model,
    Seed,
    SkipBad,
    check_new,
    check_target,
    is_endpoint,
    load_model,
    names_of,
    save,
)
from zreward.common.errors import InputError


def audit(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="Records, rated or not, of the kind that the model is for.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for audit.json and audit.html.")],
    split: Annotated[
        str | None, typer.Option(help="Only the records of this split, such as test; default: all.")
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="YAML file of what is accepted; `zreward init audit` writes one. Default: its defaults."),
    ] = None,
    checks: Annotated[
        str | None,
        typer.Option(
            help="Checks, separated by commas: invariance, monotonicity, prompts, sensitivity, leakage, unlike; default: all."
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="The most pictures that a check looks at, chosen evenly.")] = 64,
    batch_size: BatchSize = 16,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Check what moves a model's scores and should not, and what should and does not: one JSON file and one HTML page.

    Ends with exit code 1, and a list of what failed, when a threshold is exceeded: a test of one's own can call it.
    """
    from zreward.audit.run import audit as run_audit
    from zreward.audit.run import check_names
    from zreward.audit.subject import Subject
    from zreward.audit.thresholds import load_thresholds
    from zreward.common.runs import versions
    from zreward.data import load_records
    from zreward.data.preference_files import holds_preferences

    check_target(json_file)
    check_new("--out", out)
    names, limits = check_names(names_of(checks, "--checks")), load_thresholds(thresholds)
    from zreward.audit.page import to_dict, write_audit  # a missing extra is said before the model runs

    if is_endpoint(model):
        raise InputError("an endpoint gives no gradients; audit a checkpoint, a hub name or a package's name")
    if holds_preferences(data):
        raise InputError(f"{data} holds preferences; audit needs records, each with one picture")
    records = load_records(data, skip_bad=skip_bad, split=split)
    subject = Subject(load_model(model, device), records, pictures, batch_size, seed)
    found = run_audit(subject, limits, names)
    settings = {
        "model": model,
        "data": str(data),
        "split": split or "all",
        "pictures": len(subject.images),
        "seed": seed,
    }
    settings |= {"checks": ", ".join(names), "versions": versions()}
    page = write_audit(out, found, settings, asdict(limits))
    if json_file:
        save(json_file, to_dict(found, settings, asdict(limits)))
    failures = [line for one in found for line in one.failures]
    typer.echo(f"page: {page}", err=json_file == STDOUT)
    for one in found:
        said = f"{len(one.failures)} of {len(one.rows)} failed" if one.failures else f"{len(one.rows)} passed"
        typer.echo(f"{one.name}: {said}", err=json_file == STDOUT)
    for line in failures:
        typer.echo(f"FAILED {line}", err=True)
    if failures:
        raise typer.Exit(1)
