"""Labels out of the studio, as the records that training reads: JSONL, Parquet, or a Hugging Face data set folder.

A record is a picture with the scores that count (step 2's where it changed something) by rater. Raters get pseudonyms that
stay the same from export to export. Only annotators who pass the audit are in it, unless asked
otherwise; labels that were sent back, and the answers to hidden repetitions, never are. Tags say the quality control's
state of each dimension, "quality:alignment:accepted" (submitted, or mixed where raters differ), and all rubric versions
where a record's labels come from several; its own `rubric_version` is then the newest.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from zreward.common.errors import InputError
from zreward.common.files import atomic_folder
from zreward.common.temporary import temporary_folder
from zreward.data import Record, save_records
from zreward.rubric import Rubric
from zreward.studio.domain.measuring import measure_raters
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, Label, RubricVersion, User

CHUNK = 5000  # pictures read at a time


@dataclass(frozen=True)
class ExportOptions:
    accepted_only: bool = False
    """Only labels that quality control has accepted."""
    everybody: bool = False
    """Also annotators who miss the accuracy threshold or answered no gold item; never those excluded by hand."""


def export_labels(session: Session, project: Project, out: Path, options: ExportOptions) -> int:
    """Write the labels as records.

    Args:
        out: A .jsonl or .parquet file, or a folder for `datasets.load_from_disk`. Parquet and the data set hold the
            pictures; JSONL names the project's files.

    Returns:
        How many records were written.

    Raises:
        InputError: the file type is unknown, the folder is not empty, or no label may be exported.
    """
    records = exported_records(session, project, options)
    if out.suffix.lower() == ".jsonl":
        save_records(records, out)
    elif out.suffix.lower() == ".parquet":
        save_records(_WithPictures(records), out)
    elif out.suffix:
        raise InputError(
            f"{out}: unknown file type {out.suffix!r}; expected .jsonl, .parquet, or a folder without a dot"
        )
    else:
        _save_data_set(_WithPictures(records), out)
    return len(records)


def exported_records(session: Session, project: Project, options: ExportOptions) -> list[Record]:
    """InputError when nobody's labels may be exported; it says why not."""
    raters = chosen_raters(session, rubric_in_force(session), project.accuracy_threshold, options.everybody)
    names = {user: rater_name(project, user) for user in raters}
    order = {
        version: number
        for number, version in enumerate(session.scalars(select(RubricVersion.version).order_by(RubricVersion.id)))
    }
    records = []
    for candidate, labels in _by_candidate(session, names, options.accepted_only):
        if record := _record(project, candidate, labels, names, order):
            records.append(record)
    if not records:
        wanted = "accepted " if options.accepted_only else ""
        who = "the 1 annotator who counts" if len(names) == 1 else f"the {len(names)} annotators who count"
        raise InputError(f"{project.folder}: no {wanted}label by {who}; nothing to export")
    return records


def chosen_raters(session: Session, rubric: Rubric, threshold: float, everybody: bool = False) -> list[int]:
    """Ids of the annotators whose labels count; InputError with everybody's reason when there is none."""
    raters = measure_raters(session, rubric, fresh=True).audit.raters
    users = {user.id: user for user in session.scalars(select(User).where(User.id.in_([r.rater for r in raters])))}
    chosen, reasons = [], []
    for rater in raters:
        user = users[rater.rater]
        if user.excluded:
            reasons.append(f"{user.name} was excluded by quality control")
        elif everybody or rater.passes(threshold):
            chosen.append(user.id)
        else:
            reasons.append(f"{user.name} {rater.reason(threshold)}")
    if not chosen:
        why = "; ".join(reasons) or "nobody has labelled anything"
        advice = ". Add gold items, lower the threshold in project.yaml, or export everybody" if reasons else ""
        raise InputError(f"no annotator's labels may be exported: {why}{advice}")
    return chosen


def rater_name(project: Project, user: int) -> str:
    """A person's pseudonym, the same in every export of this project; it cannot be traced back without the project's secret."""
    digest = hmac.new(project.secret(), f"rater {user}".encode(), hashlib.sha256).hexdigest()
    return f"rater-{digest[:12]}"


def _by_candidate(
    session: Session, raters: Collection[int], accepted_only: bool
) -> Iterator[tuple[CandidatePicture, list[Label]]]:
    """Every labelled picture with its labels that count, in the order of the pictures."""
    states = ("accepted",) if accepted_only else ("accepted", "submitted")
    counted = (Label.user_id.in_(raters), Label.occasion == 0, Label.state.in_(states))
    ids = list(session.scalars(select(Label.candidate_id).where(*counted).distinct().order_by(Label.candidate_id)))
    for start in range(0, len(ids), CHUNK):
        first, last = ids[start], ids[min(start + CHUNK, len(ids)) - 1]
        here = Label.candidate_id.between(first, last)
        labels: dict[int, list[Label]] = defaultdict(list)
        for label in session.scalars(select(Label).where(*counted, here).order_by(Label.id)):
            labels[label.candidate_id].append(label)
        pictures = (
            select(CandidatePicture)
            .options(joinedload(CandidatePicture.prompt))
            .where(CandidatePicture.id.between(first, last))
        )
        for candidate in session.scalars(pictures.order_by(CandidatePicture.id)):
            if candidate.id in labels:
                yield candidate, labels[candidate.id]


def _record(
    project: Project, candidate: CandidatePicture, labels: Sequence[Label], names: dict[int, str], order: dict[str, int]
) -> Record | None:
    """None when nobody could judge the picture."""
    scores: dict[str, dict[str, float | None]] = defaultdict(dict)
    states: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        scores[label.dimension][names[label.user_id]] = label.final
        states[label.dimension].add(label.state)
    judged = {name: by_rater for name, by_rater in scores.items() if any(x is not None for x in by_rater.values())}
    if not judged:
        return None
    versions = sorted({label.rubric_version for label in labels}, key=lambda version: order.get(version, -1))
    tags = [f"quality:{name}:{states[name].pop() if len(states[name]) == 1 else 'mixed'}" for name in judged]
    tags += [f"rubric:{version}" for version in versions] if len(versions) > 1 else []
    prompt = candidate.prompt
    return Record(
        prompt=prompt.text,
        image=str(project.file(candidate.image)),
        scores=judged,
        group=prompt.group,
        split=prompt.split,
        rubric_version=versions[-1],
        tags=(*prompt.tags, *tags),
        id=candidate.key,
    )


class _WithPictures(Sequence[Record]):
    """Records with their pictures' bytes. A picture is read when its record is, so that they are not all in memory."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _WithPictures(self.records[index])
        record = self.records[index]
        try:
            return replace(record, image=Path(str(record.image)).read_bytes())
        except OSError as error:
            raise InputError(f"{record.image}: cannot be read: {error.strerror or error}") from error


def _save_data_set(records: Sequence[Record], out: Path) -> None:
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{out}: a data set folder needs the datasets library (pip install 'zreward[datasets]'); "
            "name a .parquet file instead"
        ) from None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already and is not an empty folder; name a new one")
    with atomic_folder(out) as made, temporary_folder(out.parent) as folder:
        table = save_records(records, folder / "records.parquet")
        datasets.Dataset.from_parquet(str(table), cache_dir=str(folder)).save_to_disk(str(made))
