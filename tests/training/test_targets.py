"""Target files: what is in them, and what is refused."""

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from weakref import finalize

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError, NotFiniteError
from zreward.common.files import file_digest
from zreward.data import Record, load_records
from zreward.data.fingerprint import records_fingerprint
from zreward.data.packed import PackedImage
from zreward.models.fingerprint import weights_fingerprint_1
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.training import targets
from zreward.training.recipe import DataRecipe
from zreward.training.targets import LabelOptions, distilled_items, explained_items, label


@pytest.fixture(scope="module")
def labelled(tiny_data, tmp_path_factory):
    teacher = RewardModel.from_pretrained(tiny_data["base"])
    pool = load_records(tiny_data["pool"])
    out = tmp_path_factory.mktemp("label") / "targets"
    label(teacher, "base", pool, str(out), LabelOptions(traces=2, shard_size=5))
    return teacher, pool, out


def test_a_shard_holds_the_distribution_its_mean_and_every_trace(labelled):
    teacher, pool, out = labelled
    rows = [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert len(rows) == len(pool) * 4
    bins = teacher.rubric.scale.bins.tolist()
    for row in rows:
        assert sum(row["probs"]) == pytest.approx(1, abs=1e-5)
        assert row["mean"] == pytest.approx(sum(b * p for b, p in zip(bins, row["probs"], strict=True)), abs=1e-4)
        assert len(row["traces"]) == 2
        assert 0 < row["tokens"] <= teacher.max_trace_tokens
        assert row["prompt"] == pool[row["record"]].prompt


@pytest.mark.parametrize("change", [{"traces": 1}, {"seed": 1}, {"shard_size": 3}])
def test_other_options_do_not_mix_into_a_folder(labelled, change):
    teacher, pool, out = labelled
    options = LabelOptions(**({"traces": 2, "shard_size": 5} | change))
    (key, value), old = next(iter(change.items())), {"traces": 2, "seed": 0, "shard_size": 5}
    said = f"{out} holds targets made with other inputs or other options (different: options.{key}: {old[key]}, now {value}); "
    advice = "choose another folder (--out), or delete this one to start over"
    with pytest.raises(InputError, match=f"^{re.escape(said + advice)}$"):
        label(teacher, "base", pool, out, options)


def test_other_records_are_refused(labelled, tiny_data):
    teacher, pool, out = labelled
    with pytest.raises(InputError, match=r"different: records: \"\w{16}\", now \"\w{16}\", count: 12, now 11"):
        label(teacher, "base", pool[:-1], out, LabelOptions(traces=2, shard_size=5))
    with pytest.raises(InputError, match="other records"):
        distilled_items(out, load_records(tiny_data["train"]), DataRecipe(train=""), teacher)


def unfinished(out, part):
    """A copy of a targets folder as a kill after its first shard leaves it."""
    part.mkdir()
    manifest = json.loads((out / "manifest.json").read_text())
    first, *_ = manifest.pop("shards")
    (part / first["shard"]).write_bytes((out / first["shard"]).read_bytes())
    (part / "manifest.json").write_text(json.dumps(manifest))
    (part / "shards.jsonl").write_text(json.dumps(first) + '\n{"shard": "targ')
    return part


def test_an_unfinished_folder_is_refused_and_gone_on_with(labelled, tmp_path):
    teacher, pool, out = labelled
    part = unfinished(out, tmp_path / "part")
    with pytest.raises(InputError, match=f"5 of {len(pool)} records"):
        distilled_items(part, pool, DataRecipe(train=""), teacher)
    before = os.stat(part / "targets-00000.parquet").st_mtime_ns
    label(teacher, "base", pool, part, LabelOptions(traces=2, shard_size=5))
    assert os.stat(part / "targets-00000.parquet").st_mtime_ns == before
    assert digests(part) == digests(out)


def test_a_run_that_was_killed_before_its_last_line_is_finished(labelled, tmp_path, capsys):
    teacher, pool, out = labelled
    part = unfinished(out, tmp_path / "part")
    lines = json.loads((out / "manifest.json").read_text())["shards"]
    for line in lines:
        shutil.copy(out / line["shard"], part)
    (part / "shards.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    items = distilled_items(part, pool, DataRecipe(train=""), teacher)
    assert [item.record for item in items] == [record for record in pool for _ in range(4)]
    label(teacher, "base", pool, part, LabelOptions(traces=2, shard_size=5))
    assert digests(part) == digests(out) and "nothing to do" not in capsys.readouterr().err


def digests(folder) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.iterdir()}


def test_a_finished_folder_is_left_alone(labelled, capsys):
    teacher, pool, out = labelled
    before = {path: os.stat(path).st_mtime_ns for path in out.iterdir()}
    label(teacher, "another name", pool, out, LabelOptions(traces=2, shard_size=5, batch_size=3))
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert {path: os.stat(path).st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_damaged_shard_is_named_when_read_and_made_again_when_resumed(labelled, tmp_path, capsys, damage):
    teacher, pool, out = labelled
    folder = tmp_path / "targets"
    shutil.copytree(out, folder)
    shard = folder / "targets-00001.parquet"
    data = shard.read_bytes()
    middle = len(data) // 2
    broken = {
        "cut": data[:middle],
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
    }
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(broken[damage])
    with pytest.raises(
        InputError,
        match=r"targets-00001.parquet is (missing|damaged \(its checksum .*\)); run `zreward label` again: it",
    ):
        distilled_items(folder, pool, DataRecipe(train=""), teacher)
    label(teacher, "base", pool, folder, LabelOptions(traces=2, shard_size=5))
    assert "targets-00001.parquet is" in capsys.readouterr().err
    assert digests(folder) == digests(out)


def changed(teacher, what: str):
    """A copy of the teacher that differs in one thing that its scores depend on."""
    other = copy.deepcopy(teacher)
    if what == "weights":
        with torch.no_grad():
            next(other.backbone.model.parameters()).flatten()[-1].add_(1e-3)
    elif what == "resolution":
        other.resolution = ResolutionPolicy(longest_side=16)
    elif what == "forms":
        other.forms = replace(other.forms, system="judge")
    elif what == "dtype":
        other.backbone.model.double()
    elif what == "max_trace_tokens":
        other.max_trace_tokens += 1
    elif what == "tokenizer":
        other.tokenizer.add_tokens(["zzz"])
    return other


@pytest.mark.parametrize("what", ["weights", "resolution", "forms", "dtype", "max_trace_tokens", "tokenizer"])
def test_another_teacher_is_refused_and_what_differs_is_named(labelled, what):
    teacher, pool, out = labelled
    with pytest.raises(InputError, match=rf"different: .*\bteacher_model\.{what}"):
        label(changed(teacher, what), "base", pool, out, LabelOptions(traces=2, shard_size=5))


def test_a_picture_that_changed_under_its_name_is_another_record(labelled, tmp_path):
    teacher, _, _ = labelled
    for n in range(2):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.bmp")
    records = [Record("a red circle", str(tmp_path / f"{n}.bmp")) for n in range(2)]
    options = LabelOptions(reasoning=False, dimensions=("realism",))
    label(teacher, "base", records, tmp_path / "out", options)
    size = os.path.getsize(tmp_path / "0.bmp")
    Image.new("RGB", (8, 8), (9, 0, 0)).save(tmp_path / "0.bmp")
    assert os.path.getsize(tmp_path / "0.bmp") == size
    with pytest.raises(InputError, match="different: records"):
        label(teacher, "base", records, tmp_path / "out", options)
    with pytest.raises(InputError, match="made for other records"):
        distilled_items(tmp_path / "out", records, DataRecipe(train=""), teacher)


def older(out, folder, pool, teacher):
    """A finished folder as version 0.1 wrote it, without checksums."""
    shutil.copytree(out, folder)
    digest = hashlib.sha256()
    for record in pool:
        image = f"{Path(record.image).name} {os.path.getsize(record.image)}".encode()
        digest.update(record.prompt.encode() + b"\0" + hashlib.sha256(image).digest())
    stored = json.loads((out / "manifest.json").read_text())
    kept = {key: stored[key] for key in ("teacher", "rubric", "count")}
    kept |= {"records": digest.hexdigest()[:16], "options": stored["options"] | {"batch_size": 16}}
    (folder / "manifest.json").write_text(json.dumps(kept | {"teacher_weights": weights_fingerprint_1(teacher)}))
    return folder


def test_targets_of_older_versions_are_read(labelled, tmp_path, monkeypatch):
    teacher, pool, out = labelled
    folder = older(out, tmp_path / "older", pool, teacher)
    with monkeypatch.context() as patch:  # a file system that lists files in another order
        patch.setattr(Path, "glob", lambda self, pattern, glob=Path.glob: sorted(glob(self, pattern), reverse=True))
        items = distilled_items(folder, pool, DataRecipe(train=""), teacher)
    assert [item.record for item in items] == [record for record in pool for _ in range(4)]
    (folder / "targets-00000.parquet").write_bytes(b"half")
    with pytest.raises(InputError, match="targets-00000.parquet is damaged"):
        distilled_items(folder, pool, DataRecipe(train=""), teacher)


def test_a_folder_of_an_older_version_is_gone_on_with(labelled, tmp_path, capsys):
    """Its whole shards are kept, a damaged and a missing one are made again; what it recorded must be the same."""
    teacher, pool, out = labelled
    folder, options = older(out, tmp_path / "older", pool, teacher), LabelOptions(traces=2, shard_size=5)
    shards = sorted(folder.glob("targets-*.parquet"))
    kept = shards[0].stat().st_mtime_ns
    shards[1].write_bytes(b"half")
    shards[-1].unlink()
    with pytest.raises(InputError, match=r"different: teacher_weights: "):
        label(changed(teacher, "weights"), "base", pool, folder, options)
    with pytest.raises(InputError, match=r"different: options.seed: 0, now 1\)"):
        label(teacher, "base", pool, folder, replace(options, seed=1))
    label(teacher, "base", pool, folder, options)
    said = capsys.readouterr().err
    assert "was started by an older zreward" in said and "targets-00001.parquet is damaged" in said
    assert shards[0].stat().st_mtime_ns == kept
    assert [pq.read_table(shard) for shard in shards] == [pq.read_table(out / shard.name) for shard in shards]
    label(teacher, "base", pool, folder, options)
    assert "is finished: nothing to do" in (said := capsys.readouterr().err) and "an older zreward" not in said


def test_a_folder_of_a_newer_version_is_refused(labelled, tmp_path):
    teacher, pool, out = labelled
    folder = shutil.copytree(out, tmp_path / "newer")
    stored = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(stored | {"schema": 3}))
    with pytest.raises(InputError, match="written by another version of zreward.*schema 3"):
        label(teacher, "base", pool, folder, LabelOptions(traces=2, shard_size=5))


def test_targets_without_the_wanted_dimension_are_refused(labelled, tmp_path):
    teacher, pool, _ = labelled
    out = tmp_path / "one"
    label(teacher, "base", pool[:2], out, LabelOptions(dimensions=("realism",)))
    with pytest.raises(InputError, match=r"hold \['realism'\], not \['alignment'\]"):
        distilled_items(out, pool[:2], DataRecipe(train="", dimensions=["alignment"]), teacher)
    (out / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        distilled_items(out, pool[:2], DataRecipe(train=""), teacher)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_bad_temperature_is_refused_before_anything_is_written(temperature):
    with pytest.raises(InputError, match="temperature"):
        LabelOptions(temperature=temperature)


def test_other_pictures_under_the_same_names_are_other_records(tmp_path):
    def fingerprint(folder: str, colour: str) -> str:
        path = tmp_path / folder / "1.png"
        path.parent.mkdir()
        Image.effect_noise((8, 8), 50 if colour == "grey" else 0).save(path)
        return records_fingerprint([Record("a red circle", str(path), {})])

    assert fingerprint("a", "grey") != fingerprint("b", "plain")


def test_a_picture_in_a_tar_counts_as_its_bytes(tmp_path):
    """Of this version's fingerprint, and of an older one's."""
    Image.effect_noise((8, 8), 50).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "a.tar").write_bytes(b"before" + content + b"behind")
    packed = Record("a red circle", PackedImage(str(tmp_path / "a.tar"), "1.png", 6, len(content)))
    for fingerprint in (records_fingerprint, targets._records_fingerprint_1):
        assert fingerprint([packed]) == fingerprint([Record("a red circle", content)])


def test_a_folder_without_manifest_is_refused(labelled, tmp_path):
    teacher, pool, _ = labelled
    with pytest.raises(InputError, match="no manifest.json"):
        distilled_items(tmp_path, pool, DataRecipe(train=""), teacher)


def test_the_manifest_names_the_teacher(labelled):
    manifest = json.loads((labelled[2] / "manifest.json").read_text())
    assert manifest["teacher"] == "base" and manifest["count"] == len(labelled[1])


def test_more_traces_than_were_sampled_and_chains_of_none_are_refused(labelled, tmp_path):
    teacher, pool, out = labelled
    with pytest.raises(InputError, match="2 traces an item.*--traces 5"):
        distilled_items(out, pool, DataRecipe(train="", target_traces=5), teacher)
    rated = [replace(record, scores={"realism": 3.0}) for record in pool[:2]]
    direct = label(teacher, "base", rated, tmp_path / "direct", LabelOptions(reasoning=False))
    with pytest.raises(InputError, match="holds no traces; label without `--direct`"):
        explained_items(direct, rated, DataRecipe(train=""), ["realism"], teacher)


@pytest.mark.parametrize("reasoning", [False, True])
def test_an_answer_that_is_not_finite_names_its_record(labelled, tmp_path, monkeypatch, reasoning):
    teacher, pool, _ = labelled
    broken = pool[6]
    whole = teacher.backbone.label_logits

    def logits(hidden):
        found = whole(hidden)
        return found * float("nan") if seen[-1] else found

    seen: list[bool] = []
    collate = type(teacher).collate

    def watched(self, images, rows, start=False):
        seen.append(any(row.prompt == broken.prompt for row in rows))
        return collate(self, images, rows, start)

    monkeypatch.setattr(type(teacher), "collate", watched)
    monkeypatch.setattr(teacher.backbone, "label_logits", logits)
    options = LabelOptions(traces=1, shard_size=4, batch_size=1, reasoning=reasoning, dimensions=("alignment",))
    with pytest.raises(NotFiniteError) as raised:
        label(teacher, "base", pool, tmp_path / "out", options)
    assert raised.value.item == next(n for n, record in enumerate(pool) if record.prompt == broken.prompt)


def test_a_folder_that_several_jobs_have_begun_is_left_to_them(labelled, tmp_path):
    teacher, pool, _ = labelled
    (tmp_path / "out" / "job-0001-of-0002").mkdir(parents=True)
    with pytest.raises(InputError, match="was begun by several jobs .*finish them with --shard"):
        label(teacher, "base", pool, tmp_path / "out", LabelOptions(traces=1))


class Made(Sequence):
    """Records whose pictures are opened anew each time, and how many of these are alive at most."""

    def __init__(self, records, counts=None):
        self.records, self.counts = records, counts or {"alive": 0, "most": 0}

    def __len__(self):
        return len(self.records)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return Made(self.records[key], self.counts)
        picture = self.records[key].open_image()
        self.counts["alive"] += 1
        self.counts["most"] = max(self.counts["most"], self.counts["alive"])
        finalize(picture, self._gone)
        return replace(self.records[key], image=picture)

    def _gone(self):
        self.counts["alive"] -= 1


def test_labelling_holds_the_pictures_of_a_few_records(labelled):
    model, pool, _ = labelled
    given = Made(list(pool) * 4)
    for reasoning in (False, True):
        targets._label_shard(
            model, given, 0, model.rubric.dimension_names[:1], LabelOptions(reasoning=reasoning, batch_size=2), 0
        )
    assert len(given) == 48 and 0 < given.counts["most"] < 16
