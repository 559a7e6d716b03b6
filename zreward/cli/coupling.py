"""`zreward evaluate --coupling`: whether the score follows the reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from zreward.cli.options import is_endpoint, refuse_unused
from zreward.common.errors import InputError

if TYPE_CHECKING:
    from zreward.data.record import Record
    from zreward.evaluation.coupling import Coupling
    from zreward.evaluation.report.sections import Section


def check_coupling(ctx: typer.Context, model: str, editor: str) -> None:
    """InputError, before the model is loaded, for what does not go with --coupling."""
    from zreward.evaluation.coupling_edits import find_editor

    refuse_unused(ctx, "with --coupling: it reads the score after one trace of each picture", "traces")
    if is_endpoint(model):
        raise InputError(
            "--coupling writes traces for the model to read, which an endpoint does not take; use a checkpoint"
        )
    find_editor(editor)


def tell_coupling(
    coupling: Coupling, records: Sequence[Record], resamples: int, title: str, silent: bool
) -> tuple[list[dict[str, Any]], Section]:
    """The rows, printed, and the page's section.

    Args:
        coupling: what was read.
        records: the same records.
        resamples: draws behind the intervals.
        title: above the table.
        silent: print nothing.
    """
    from zreward.evaluation.coupling_table import coupling_section, coupling_table, print_coupling

    rows = coupling_table(coupling, records, resamples)
    if not silent:
        print_coupling(rows, coupling, f"Does the score follow the reasoning? {title}")
    return rows, coupling_section(rows, coupling, records)
