"""Good, same or bad: two folders of pictures, pair by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import STDOUT, Json, check_suffix, check_target, names_of, refuse_unused, save
from zreward.common import registry
from zreward.common.errors import InputError


def compare(
    ctx: typer.Context,
    before: Annotated[Path, typer.Argument(help="Folder of pictures, with pictures.jsonl.")],
    after: Annotated[Path, typer.Argument(help="Folder of pictures of the same prompts and seeds.")],
    judge: Annotated[
        str | None,
        typer.Option(
            help="A reward model (folder or hub name), or oracle, which measures pictures of the built-in world."
        ),
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Let people judge: make a blind comparison in this studio project.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --study: the comparison's name, which raters see; default: a number.")
    ] = None,
    aspects: Annotated[
        str | None,
        typer.Option(
            help="With --study: what raters are asked about: overall, or dimensions, separated by commas; default: overall."
        ),
    ] = None,
    raters: Annotated[int, typer.Option(min=1, help="With --study: raters per pair.")] = 3,
    same: Annotated[
        float, typer.Option(min=0, help="With --judge: the least difference in score points that is not a tie.")
    ] = 0.25,
    overall: Annotated[
        str | None, typer.Option(help="With --judge: dimensions whose mean decides, separated by commas; default: all.")
    ] = None,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="With --judge MODEL: let the model reason before it scores.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            help="With --judge MODEL: device such as cpu or cuda:1; default: CUDA if available, else the CPU."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --judge: write an HTML page of the pairs, side by side.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Compare two generators pair by pair (good, same, bad), by a model or by people.

    Both folders hold pictures of the same prompts and seeds.
    """
    if (judge is None) == (study is None):
        raise InputError("expected --judge (oracle, or a reward model) or --study PROJECT (people), one of the two")
    if study is not None:
        refuse_unused(ctx, "with --study: people judge", "same", "overall", "reasoning", "device", "out", "json_file")
        from zreward.studio.create import create_study

        _name_skipped(before, after)
        typer.echo(create_study(study, before, after, name, names_of(aspects, "--aspects") or (), raters))
        return
    assert judge is not None
    refuse_unused(ctx, "with --judge: it belongs to --study", "name", "aspects", "raters")
    if judge in registry.names(registry.JUDGES):
        refuse_unused(ctx, f"with --judge {judge}, which is no model", "reasoning", "device")
    from zreward.generation.comparison import compare as run_compare
    from zreward.generation.comparison import read_pairs
    from zreward.generation.judges import load_judge
    from zreward.generation.pages import print_verdicts, write_comparison_page

    check_target(json_file)
    check_suffix("--out", out, ".html", ".htm")
    _name_skipped(before, after)
    pairs = read_pairs(before, after)
    found = run_compare(load_judge(judge, device, reasoning), pairs, same, names_of(overall, "--overall") or ())
    if json_file != STDOUT:
        print_verdicts(found)
    if out:
        facts = {"before": str(before), "after": str(after)}
        typer.echo(f"page: {write_comparison_page(out, found, pairs, facts)}", err=json_file == STDOUT)
    if json_file:
        save(json_file, found.to_dict())


def _name_skipped(before: Path, after: Path) -> None:
    from zreward.data.folders import match_folders

    for note in match_folders(before, after)[1]:
        typer.echo(note, err=True)
