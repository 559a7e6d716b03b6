"""Models for others: a plain transformers folder, the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import Device, Model, load_model, refuse_unused


def export(
    model: Model,
    out: Annotated[Path, typer.Argument(help="New folder to write.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge a LoRA adapter into its base; adapters cannot be exported otherwise.")
    ] = False,
    device: Device = None,
) -> None:
    """Write a model as a plain transformers folder that vLLM serves: weights, processor files, the request for a score."""
    from zreward.publishing.export import export as run_export
    from zreward.publishing.request import FILE

    made = run_export(load_model(model, device), out, merge)
    typer.echo(f"{made}: loads with AutoModelForImageTextToText and AutoProcessor; {made / FILE} holds the requests")


def push(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(help="Checkpoint folder, such as one of `zreward export`.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; made if it is not there.")],
    license: Annotated[str, typer.Option("--license", help="Licence of the weights, as the hub names it: apache-2.0.")],
    data: Annotated[str, typer.Option("--data", help="For the card: what it was trained on, and who rated it.")],
    base: Annotated[str, typer.Option("--base", help="For the card: hub name of the model it was trained from.")] = "",
    metrics: Annotated[
        Path | None, typer.Option("--metrics", help="For the card: what `zreward evaluate --json FILE` wrote.")
    ] = None,
    command: Annotated[str, typer.Option("--command", help="For the card: the command that wrote --metrics.")] = "",
    limits: Annotated[
        list[str] | None, typer.Option("--limits", help="For the card: a known limit; may be given several times.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the card and list the files; send nothing.")
    ] = False,
) -> None:
    """Put a model with a model card on the Hugging Face hub: rubric, data, metrics, limits, licence; safetensors only."""
    if dry_run:
        refuse_unused(ctx, "with --dry-run, which sends nothing", "private")
    from zreward.publishing.card import CardFacts
    from zreward.publishing.push import push as run_push
    from zreward.publishing.readme import README

    facts = CardFacts(license, data, base, metrics, command, tuple(limits or ()))
    pushed = run_push(model, repo, facts, private, dry_run)
    kept = f"{model / README} was written by somebody else and is kept" if pushed.has_own_card else ""
    typer.echo(kept or f"model card: {model / README}")
    typer.echo(f"{'to send' if dry_run else 'sent'}: {', '.join(pushed.files)}")
    if pushed.url:
        typer.echo(pushed.url)
