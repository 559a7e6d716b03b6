"""`zreward doctor`: the machine, and whether the kernels of a model compute what they should on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zreward.cli.options import STDOUT, Device, Json, check_target, save

if TYPE_CHECKING:
    from zreward.models.doctor import Examination


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Checkpoint folder, Hugging Face hub name, or a package's name; only its configuration is read. "
            "Default: typical layers of every supported family."
        ),
    ] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Show the card, versions and matrix speed; check the kernels of a model's layers, forward and backward, against float64.

    Exit code: 0 if every kernel is right, refuses or is absent; 1 if a kernel gives wrong numbers or NaN.
    Training replaces a kernel that is not right with its slower reference.
    """
    from zreward.models.devices import find_device
    from zreward.models.doctor import examine

    check_target(json_file)
    found = examine(model, find_device(device))
    if json_file != STDOUT:
        _print(found)
    if json_file:
        save(json_file, found.to_dict())
    raise typer.Exit(1 if found.is_wrong else 0)


def _print(found: Examination) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from zreward.models.kernels.check import format_name

    console = Console()
    for name, value in _facts(found).items():
        console.print(escape(f"{name:24}{value}"), highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    formats = list(dict.fromkeys(format_name(one.number_format) for one in found.findings))
    for title in ("layer", "kernel", "sizes", "in use", *formats):
        table.add_column(title, overflow="fold")
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in found.findings:
        kernel = one.kernel
        rows.setdefault((kernel.layer, kernel.name, kernel.sizes, kernel.implementation), []).append(str(one.verdict))
    for names, verdicts in rows.items():
        table.add_row(*map(escape, (*names, *verdicts)))
    console.print(table)
    for kernel in {one.kernel.remedy: one.kernel for one in found.findings if not one.verdict.is_right}.values():
        console.print(escape(f"{kernel.name}: install {kernel.remedy}"), highlight=False)
    for line in found.missing:
        console.print(escape(f"missing for a GPU: {line}"), highlight=False)


def _facts(found: Examination) -> dict[str, str]:
    facts = {name: value or "-" for name, value in found.environment.items()}
    if found.free_bytes is not None and found.total_bytes is not None:
        facts["free memory"] = f"{found.free_bytes / 2**30:.1f} of {found.total_bytes / 2**30:.1f} GiB"
        allowed = [name for name, value in found.tf32.items() if value]
        facts["TF32"] = f"allowed in {', '.join(allowed)}" if allowed else "off"
    for name, value in found.peak.items():
        facts[f"matrix peak, {name}"] = f"{value:.3g} TFLOP/s"
    return facts
