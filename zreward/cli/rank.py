"""The best of N pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    Device,
    Dimensions,
    Json,
    Model,
    Reasoned,
    ScoringBatch,
    Seed,
    Temperature,
    check_suffix,
    check_target,
    load_model,
    names_of,
    refuse_unused,
    sampling_of,
    save,
)


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
    traces: Reasoned = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    batch_size: ScoringBatch = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write an HTML page with all candidates, best first.")
    ] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Rank the candidates of each prompt (best of N), with the probability that each is the best.

    With --traces K the model reasons first, and its doubt (traces that disagree) lowers the certainty.
    """
    from zreward.inference.contact_sheet import find_candidates, print_ranking, write_contact_sheet
    from zreward.inference.ranking import rank as rank_all
    from zreward.inference.scoring import reasoned

    check_target(json_file)
    check_suffix("--out", out, ".html", ".htm")
    if json_file == STDOUT:
        refuse_unused(ctx, "beside --json, which prints all candidates", "top")
    sampling, names = sampling_of(ctx, traces, temperature, seed), names_of(dimensions)
    files, prompts, notes = find_candidates(images, prompt)
    for note in notes:
        typer.echo(note, err=True)
    loaded = load_model(model, device)
    if sampling:
        scores, _ = reasoned(loaded, files, prompts, names, batch_size, sampling)
    else:
        scores = loaded.score(files, prompts, names, batch_size)
    ranked = rank_all(files, prompts, scores)
    if json_file != STDOUT:
        print_ranking(ranked, top)
    if out:
        typer.echo(f"page: {write_contact_sheet(out, ranked, model)}", err=json_file == STDOUT)
    if json_file:
        save(json_file, [candidate.to_dict() for candidate in ranked])
