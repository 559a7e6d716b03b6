"""Targets and scores that several jobs make together are those of one process, to the byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tiny import tiny_model, tiny_records
from zreward.cli.options import job_of
from zreward.common.errors import InputError
from zreward.common.files import file_digest
from zreward.common.jobs import Job
from zreward.common.shards import LINES
from zreward.data import Record, load_records, save_records
from zreward.inference import bulk
from zreward.inference.bulk import score_data
from zreward.inference.bulk_jobs import merge_scores, score_job
from zreward.training.target_jobs import label_job, merge_targets
from zreward.training.targets import LabelOptions, label

OPTIONS = LabelOptions(traces=2, dimensions=("realism",), shard_size=2, batch_size=2)


@pytest.fixture(scope="module")
def model():
    return tiny_model(trace_tokens=4)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return tiny_records(3, 3, seed=0)


@pytest.fixture(scope="module")
def alone(model, records, tmp_path_factory) -> dict[str, str]:
    """The targets of one process."""
    return digests(label(model, "base", records, tmp_path_factory.mktemp("alone") / "targets", OPTIONS))


@pytest.fixture
def data(records, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(bulk, "SHARD", 2)
    return save_records(records, tmp_path / "data.jsonl")


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def jobs(count: int) -> list[Job]:
    return [Job(number, count) for number in range(1, count + 1)]


# --- a job


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/99999", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="expected I/N"):
        Job.parse(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_shard_is_made_by_one_job(count):
    assert [sum(job.makes(shard) for job in jobs(count)) for shard in range(20)] == [1] * 20
    assert Job.parse(f" 1/{count}") == Job(1, count)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"RANK": "0"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Job(1, 2)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, Job(4, 4)),
    ],
)
def test_a_rank_is_a_job(monkeypatch, settings, expected):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert Job.of_rank() == expected


# --- targets


@pytest.mark.parametrize("count", [1, 2, 7])
def test_targets_of_jobs_are_those_of_one_process(model, records, alone, tmp_path, count):
    for job in reversed(jobs(count)):
        assert label_job(model, "base", records, tmp_path / "targets", OPTIONS, job).name == job.folder
    assert digests(merge_targets(tmp_path / "targets")) == alone
    assert merge_targets(tmp_path / "targets") == tmp_path / "targets"  # nothing to do
    label_job(model, "base", records, tmp_path / "targets", OPTIONS, Job(1, 2))
    label(model, "base", records, tmp_path / "targets", OPTIONS)
    assert digests(tmp_path / "targets") == alone


def test_folders_of_other_machines_are_joined_and_stay(model, records, alone, tmp_path):
    folders = [label_job(model, "base", records, tmp_path / f"{job.number}", OPTIONS, job) for job in jobs(2)]
    before = [digests(folder) for folder in folders]
    assert digests(merge_targets(tmp_path / "targets", folders)) == alone
    assert [digests(folder) for folder in folders] == before


def interrupt(monkeypatch, model, after: int) -> None:
    """The model is interrupted in its `after`th judgement from now on."""
    judge, left = type(model).judge, [after]

    def failing(self, *arguments):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return judge(self, *arguments)

    monkeypatch.setattr(type(model), "judge", failing)


def test_a_job_that_was_cut_off_is_repeated_by_more_jobs(model, records, alone, tmp_path, monkeypatch):
    """Shards that are there are not made again, whoever made them."""
    out = tmp_path / "targets"
    with monkeypatch.context() as patch:
        interrupt(patch, model, 3)
        with pytest.raises(KeyboardInterrupt):
            label_job(model, "base", records, out, OPTIONS, Job(1, 2))
    label_job(model, "base", records, out, OPTIONS, Job(2, 2))
    with pytest.raises(InputError, match=r"1 of 5 shards .* run the unfinished jobs \(--shard 1/2\) again"):
        merge_targets(out)
    assert not (out / "manifest.json").exists()
    for job in jobs(3):
        label_job(model, "base", records, out, OPTIONS, job)
    made = sorted(path.name for path in out.glob("job-*/targets-*"))
    assert made == [f"targets-{n:05d}.parquet" for n in range(5)]
    assert digests(merge_targets(out)) == alone


def test_a_shard_that_two_jobs_made_is_taken_once_and_a_damaged_one_never(model, records, alone, tmp_path):
    out = tmp_path / "targets"
    for job in jobs(2):
        folder = label_job(model, "base", records, tmp_path / str(job.number), OPTIONS, job)
        shutil.copytree(folder, out / folder.name)
    twice = label_job(model, "base", records, tmp_path / "all", OPTIONS, Job(1, 1))
    shutil.copytree(twice, out / twice.name)
    (out / "job-0001-of-0002" / "targets-00000.parquet").write_bytes(b"damaged")
    assert digests(merge_targets(out)) == alone


def test_a_damaged_shard_is_made_again(model, records, alone, tmp_path):
    out = tmp_path / "targets"
    for job in jobs(2):
        label_job(model, "base", records, out, OPTIONS, job)
    (out / "job-0002-of-0002" / "targets-00003.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"1 of 5 shards .* \(--shard 2/2\)"):
        merge_targets(out)
    label_job(model, "base", records, out, OPTIONS, Job(2, 2))
    assert digests(merge_targets(out)) == alone


def test_a_shard_that_another_job_left_damaged_is_made_by_whoever_comes_next(model, records, alone, tmp_path):
    out = tmp_path / "targets"
    for job in jobs(2):
        label_job(model, "base", records, out, OPTIONS, job)
    (out / "job-0002-of-0002" / "targets-00003.parquet").write_bytes(b"damaged")
    label_job(model, "base", records, out, OPTIONS, Job(1, 1))
    assert [path.name for path in out.glob("job-0001-of-0001/targets-*")] == ["targets-00003.parquet"]
    assert digests(merge_targets(out)) == alone


def test_jobs_of_other_options_are_refused(model, records, tmp_path):
    out, other = tmp_path / "targets", LabelOptions(traces=1, dimensions=("realism",), shard_size=2, batch_size=2)
    label_job(model, "base", records, out, OPTIONS, Job(1, 2))
    with pytest.raises(InputError, match="options.traces: 2, now 1"):
        label_job(model, "base", records, out, other, Job(2, 2))
    elsewhere = label_job(model, "base", records, tmp_path / "other", other, Job(2, 2))
    with pytest.raises(InputError, match="options.traces: 2, now 1.*merge jobs of the same inputs"):
        merge_targets(tmp_path / "merged", [out / Job(1, 2).folder, elsewhere])


def test_one_process_and_jobs_do_not_mix(model, records, tmp_path, monkeypatch):
    label_job(model, "base", records, tmp_path / "jobs", OPTIONS, Job(1, 2))
    with pytest.raises(InputError, match="begun by several jobs .*`zreward merge"):
        label(model, "base", records, tmp_path / "jobs", OPTIONS)
    interrupt(monkeypatch, model, 2)
    with pytest.raises(KeyboardInterrupt):
        label(model, "base", records, tmp_path / "one", OPTIONS)
    with pytest.raises(InputError, match="begun by one process; continue it without --shard"):
        label_job(model, "base", records, tmp_path / "one", OPTIONS, Job(1, 2))


def test_what_holds_no_jobs_is_not_merged(tmp_path):
    with pytest.raises(InputError, match="no targets of jobs to merge"):
        merge_targets(tmp_path / "none")
    with pytest.raises(InputError, match="no scores of jobs to merge"):
        merge_scores(tmp_path / "none.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no manifest.json; expected the folder of a job"):
        merge_targets(tmp_path / "none", [tmp_path / "empty"])


def test_jobs_are_not_merged_into_something_else(model, records, tmp_path):
    folder = label_job(model, "base", records, tmp_path / "jobs", OPTIONS, Job(1, 1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no manifest.json"):
        merge_targets(tmp_path / "other", [folder])


# --- scores


@pytest.mark.parametrize("count", [1, 2, 7])
def test_scores_of_jobs_are_those_of_one_process(model, data, tmp_path, count):
    score_data(model, data, tmp_path / "alone.parquet")
    out = tmp_path / "scores.parquet"
    rows = [score_job(model, data, out, job) for job in jobs(count)]
    assert sum(rows) == 9 and len(rows) == count
    assert merge_scores(out) == 9
    assert file_digest(out) == file_digest(tmp_path / "alone.parquet")
    assert not list(tmp_path.glob("*.parts"))
    assert merge_scores(out) == 9 and score_job(model, data, out, Job(1, 2)) == 9  # nothing to do
    assert pq.read_table(out)["row"].to_pylist() == list(range(1, 10))


def test_scores_of_other_machines_are_joined_and_stay(model, data, tmp_path):
    score_data(model, data, tmp_path / "alone.parquet")
    for job in jobs(2):
        score_job(model, data, tmp_path / f"{job.number}.parquet", job)
    folders = [tmp_path / f"{job.number}.parquet.parts" / job.folder for job in jobs(2)]
    assert merge_scores(tmp_path / "scores.parquet", folders) == 9
    assert file_digest(tmp_path / "scores.parquet") == file_digest(tmp_path / "alone.parquet")
    assert all(folder.is_dir() for folder in folders) and not (tmp_path / "scores.parquet.parts").exists()


def test_a_job_opens_only_its_own_pictures(model, data, tmp_path, monkeypatch):
    opened, digest = [], bulk.image_digest
    monkeypatch.setattr(bulk, "image_digest", lambda image: opened.append(image) or digest(image))
    score_job(model, data, tmp_path / "scores.parquet", Job(2, 3))
    assert len(opened) == 3  # shards 1 and 4: rows 2, 3 and 8


def test_a_merge_that_was_cut_off_is_repeated(model, data, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    for job in jobs(2):
        score_job(model, data, out, job)
    merge_all = bulk.atomic_path
    monkeypatch.setattr(bulk, "atomic_path", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        merge_scores(out)
    monkeypatch.setattr(bulk, "atomic_path", merge_all)
    shutil.copytree(tmp_path / "scores.parquet.parts", tmp_path / "kept")
    merge_scores(out)
    before = file_digest(out)
    shutil.copytree(tmp_path / "kept" / Job(2, 2).folder, tmp_path / "scores.parquet.parts" / Job(2, 2).folder)
    assert merge_scores(out) == 9  # the kill fell between the removal of two folders
    assert file_digest(out) == before and not (tmp_path / "scores.parquet.parts").exists()


def test_jobs_that_read_other_rows_are_not_joined(model, data, tmp_path):
    out = tmp_path / "scores.parquet"
    score_job(model, data, out, Job(1, 2))
    lines = data.read_text().splitlines()
    changed = json.loads(lines[0]) | {"prompt": "another"}
    data.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    score_job(model, data, out, Job(2, 2))
    with pytest.raises(InputError, match="scored data sets of other rows"):
        merge_scores(out)


def test_missing_scores_are_named_by_their_jobs(model, data, tmp_path):
    out = tmp_path / "scores.parquet"
    score_job(model, data, out, Job(1, 3))
    with pytest.raises(InputError, match=r"3 of 5 shards .* \(--shard 2/3, 3/3\)"):
        merge_scores(out)
    with pytest.raises(InputError, match="begun by several jobs"):
        score_data(model, data, out)


def test_targets_and_scores_are_not_mixed_up(model, data, records, tmp_path):
    score_job(model, data, tmp_path / "scores.parquet", Job(1, 1))
    folder = label_job(model, "base", records, tmp_path / "targets", OPTIONS, Job(1, 1))
    with pytest.raises(InputError, match="holds no targets"):
        merge_targets(tmp_path / "merged", [tmp_path / "scores.parquet.parts" / Job(1, 1).folder])
    with pytest.raises(InputError, match="holds no scores"):
        merge_scores(tmp_path / "merged.parquet", [folder])


@pytest.mark.parametrize("count", [10**15, -1, 0, True, 2.5, "4", None, [], {}])
def test_a_manifest_with_an_impossible_count_is_refused_at_once(model, data, records, tmp_path, count):
    """Shards are listed by number: a manifest may not say how much memory a merge takes."""
    label_job(model, "base", records, tmp_path / "targets", OPTIONS, Job(1, 1))
    score_job(model, data, tmp_path / "scores.parquet", Job(1, 1))
    for folder, merge in (
        (tmp_path / "targets", lambda: merge_targets(tmp_path / "targets")),
        (tmp_path / "scores.parquet.parts", lambda: merge_scores(tmp_path / "scores.parquet")),
    ):
        file = folder / "job-0001-of-0001" / "manifest.json"
        stored = json.loads(file.read_text())
        where, key = (stored["rows"], "shards") if "rows" in stored else (stored, "count")
        where[key] = count
        file.write_text(json.dumps(stored))
        with pytest.raises(InputError, match="it is damaged: delete|it holds no targets"):
            merge()


@pytest.mark.parametrize("line", ["5", "[]", "null", '"text"', '{"shard": 1}', "[[1]]", "{}"])
def test_a_line_that_is_none_of_a_shards_counts_as_missing(model, records, alone, tmp_path, line):
    label_job(model, "base", records, tmp_path / "out", OPTIONS, Job(1, 1))
    lines = tmp_path / "out" / "job-0001-of-0001" / LINES
    lines.write_text(lines.read_text() + line + "\n")
    assert digests(merge_targets(tmp_path / "out")) == alone


def test_an_empty_data_set_leaves_nothing(model, data, tmp_path):
    data.write_text("")
    with pytest.raises(InputError, match="it is empty"):
        score_job(model, data, tmp_path / "scores.parquet", Job(1, 2))
    assert not list(tmp_path.glob("*.parts/*"))


# --- commands


def test_a_dry_run_tells_how_far_a_job_is(model, data, records, tmp_path):
    from zreward.inference import bulk_dry_run
    from zreward.training import label_dry_run

    model.save_pretrained(tmp_path / "base")
    base, targets, scores = str(tmp_path / "base"), tmp_path / "targets", tmp_path / "scores.parquet"
    loaded = type(model).from_pretrained(base)

    def told(job: Job) -> tuple[str, str]:
        labels = label_dry_run.check_inputs(base, data, targets, OPTIONS, job=job)
        return labels[-1], bulk_dry_run.check_inputs(base, data, scores, job=job)[-1]

    assert all("free, and can be written" in line for line in told(Job(1, 2)))
    label_job(loaded, "base", load_records(data), targets, OPTIONS, Job(1, 2))
    score_job(loaded, data, scores, Job(1, 2))
    for line, home in zip(told(Job(1, 2)), (targets, tmp_path / "scores.parquet.parts"), strict=True):
        assert line == f"{home / Job(1, 2).folder}: all 3 shards are there and whole: nothing to do"
    assert all("free, and can be written" in line for line in told(Job(2, 2)))


def test_ranks_share_the_work_already(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert job_of(None) == Job(2, 2)
    with pytest.raises(InputError, match="--shard 1/2 has no effect here: the 2 processes"):
        job_of("1/2")
