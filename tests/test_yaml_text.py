"""YAML that people edit: what is odd is refused with its line, quickly, in a short message, whoever reads it."""

from __future__ import annotations

import os
import time

import pytest

from zreward.common.bounded import read_bytes, read_json
from zreward.common.config import load_config
from zreward.common.errors import InputError, shown
from zreward.common.yaml_text import YAML_LIMIT, parse_yaml, read_yaml
from zreward.rubric import Rubric
from zreward.studio.storage.project import ProjectSettings
from zreward.training.recipe import load_recipe

READERS = [load_recipe, Rubric.from_yaml, lambda path: load_config(ProjectSettings, path)]
MINIMAL = "method: sft\nout: o\ndata: {train: a.jsonl}\nmodel: {name: m}\n"


def test_plain_values_are_read_and_a_date_stays_a_text():
    text = "{a: [1, 2.5, yes, null, text, 'x: y', 0x10], b: 2020-13-45, c: 2024-02-01, d: !!str 5}"
    assert parse_yaml(text, "here") == {
        "a": [1, 2.5, True, None, "text", "x: y", 16],
        "b": "2020-13-45",
        "c": "2024-02-01",
        "d": "5",
    }


BAD = {
    "an alias": ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases"),
    "an anchor on a text": ("a: 1\nb: &x text\n", "line 2: anchors and aliases"),
    "a key twice": ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "line 5: the key 'c' stands twice"),
    "a number twice": ("{1: x, 1.0: y}", "the key 1.0 stands twice"),
    "a list as a key": ("? [1]\n: 2\n", "is no text or number"),
    "deep lists": ("a: " + "[" * 20_000 + "]" * 20_000, "nested more than 50 levels"),
    "deep mappings": ("{a: " * 20_000 + "}" * 20_000, "nested more than 50 levels"),
    "deep dashes": ("- " * 20_000 + "a", "nested more than 50 levels"),
    "5,000 digits": ("a: " + "9" * 5_000, "a number of 5,000 letters"),
    "many sexagesimal places": ("a: " + "1:" * 50_000 + "1", "a number of 100,001 letters"),
    "a Python object": ("a: !!python/object:os.system ls", "could not determine a constructor"),
    "bytes": ("a: !!binary aGk=", "could not determine a constructor"),
    "a set": ("a: !!set {x}", "the tag .* is not read"),
    "a list that is called a mapping": ("a: !!map [1]", "the tag .* is not read"),
    "no number": ("a: !!int five", "line 1: 'five' is no int"),
    "half a surrogate pair": ('a: "\\ud800"', "half a surrogate pair"),
    "NUL": ('a: "x\\0y"', "NUL character"),
    "a tab": ("a:\n\tb: 1\n", "line 2: found character"),
    "several documents": ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
    "control characters": ("a: \x01", "not YAML"),
    "too long": ("#" * (YAML_LIMIT + 1), "expected at most 262,144"),
    "a huge tag": ("!" + "x" * 200_000 + " a", "could not determine"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_is_odd_is_refused_with_its_line(text, message):
    begin = time.process_time()
    with pytest.raises(InputError, match=f"here: .*{message}") as caught:
        parse_yaml(text, "here")
    assert len(str(caught.value)) < 400
    assert time.process_time() - begin < 20  # seconds; without the bounds some of these take minutes


@pytest.mark.parametrize("read", READERS, ids=["recipe", "rubric", "project.yaml"])
def test_every_reader_of_yaml_refuses_what_is_odd(read, tmp_path):
    path = tmp_path / "odd.yaml"
    for text in (
        "name: &a x\nb: *a\n",
        "name: x\nname: y\n",
        "name: [1",
        "- a\n",
        "",
        " \n",
        "null",
        "name: " + "[" * 9_000,
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"odd\.yaml"):
            read(path)


@pytest.mark.parametrize("read", READERS, ids=["recipe", "rubric", "project.yaml"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: os.mkfifo(path), r"is a pipe \(FIFO\), not a regular file; expected a YAML file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a regular file"),
        (lambda path: path.mkdir(), "[Ii]s a (folder|directory)"),
        (lambda path: path.symlink_to("nowhere"), "a link to nowhere, which is not there"),
        (lambda path: path.write_text("a: 1", encoding="utf-16"), "UTF-16 text.*save it as UTF-8"),
        (lambda path: path.write_bytes(b"\xff\x00\x80"), "UTF-16 text|not UTF-8 text"),
    ],
    ids=["pipe", "device", "folder", "dangling link", "UTF-16", "binary"],
)
def test_every_reader_of_yaml_takes_text_files_only(read, make, message, tmp_path):
    make(tmp_path / "odd.yaml")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "odd.yaml")


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "bom.yaml").write_text("a: 1\n", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "bom.yaml") == {"a": 1}


def test_files_are_bounded_also_where_their_size_is_not_known_before(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="11 bytes; expected a file of at most 10"):
        read_bytes(tmp_path / "long", most=10)
    assert read_bytes(tmp_path / "long", most=11) == b"x" * 11
    with pytest.raises(InputError, match="more than 10 bytes"):
        read_bytes("/proc/self/status", most=10)
    assert b"Name:" in read_bytes("/proc/self/status")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "holds a JSON list, expected an object"),
        ('{"a": ', "no JSON .*damaged or cut off"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        ('{"a": ' + "9" * 5_000 + "}", "no JSON"),
    ],
)
def test_json_is_an_object_of_bounded_depth(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: 2020-13-45", "seed is '2020-13-45', expected a whole number"),
        ("seed: " + "9" * 40, "seed is a number of about 40 digits, expected a whole number of at most"),
        ("seed: " + "9" * 400, "line 5: a number of 400 letters"),
        ("seed: 5000000000", "seed is 5000000000, expected at most 4,294,967,295"),
        ("optimizer: {learning_rate: .nan}", "optimizer.learning_rate is nan, expected a finite number"),
        ("optimizer: {learning_rate: 1e999}", "optimizer.learning_rate is '1e999', expected a finite number"),
        ("optimizer: {learning_rate: yes}", "optimizer.learning_rate is True, expected a number"),
        ("optimizer: {steps: true}", "optimizer.steps is True, expected a whole number"),
        ("optimizer: {steps: 1.5}", "optimizer.steps is 1.5, expected a whole number"),
        ("report_to: [1]", r"report_to\[0\] is 1, expected a text"),
        ("report_to: [[a]]", r"report_to\[0\] is \['a'\], expected a text"),
        ("trainer: {1: 2}", "a name in trainer is 1, expected a text"),
        ("eval_every: [" + "x, " * 9_000 + "]", "eval_every is .{,80}, expected a whole number"),
        ("model: {name: m, lora_rank: 1000000000}", "stands twice"),
        ("s" * 900 + ": 1", "unknown key s{76} ...;"),
    ],
)
def test_odd_values_of_a_recipe_end_in_a_short_message(line, message, tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=", "seed is None, expected a whole number"),
        ("=x", "expected key=value"),
        ("seed", "expected key=value"),
        (".seed=1", "expected key=value"),
        ("optimizer..steps=1", "expected key=value"),
        ("seed=[1", "override 'seed=.1': not YAML: line 1"),
        ("seed=&a 1", "anchors and aliases"),
        ("data.train.x=1", "train holds a value, not further keys"),
        ("model.lora_rank=1000000000", "model.lora_rank is 1000000000, expected at most 8,192"),
        ("model.scratch.hidden_size=1200000000", "expected at most 1e.09; start a model of that size"),
        ("seed=" + "9" * 5_000, "a number of 5,000 letters"),
        ("x" * 9_000 + "=1", "unknown key x{76} ...;"),
        ("a." * 9_000 + "b=1", "unknown key a;"),
        ("base=other.yaml", "unknown key base"),
    ],
)
def test_odd_overrides_end_in_a_short_message(override, message, tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL)
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(tmp_path / "r.yaml", [override])
    assert len(str(caught.value)) < 800


def test_bases_of_bases_end(tmp_path):
    (tmp_path / "0.yaml").write_text(MINIMAL)
    for n in range(1, 13):
        (tmp_path / f"{n}.yaml").write_text(f"base: {n - 1}.yaml\n")
    assert load_recipe(tmp_path / "9.yaml").method == "sft"
    with pytest.raises(InputError, match="10th base of a base"):
        load_recipe(tmp_path / "12.yaml")


def test_values_in_messages_are_shortened_at_a_bounded_cost():
    bomb = ["lol"] * 10
    for _ in range(30):  # 10^30 texts
        bomb = [bomb] * 10
    for value in (bomb, "x" * 10**7, 10**10_000, dict.fromkeys(range(10**5), "y" * 99), b"z" * 10**6):
        assert len(shown(value)) <= 80
    assert shown("short") == "'short'"
    assert shown(10**10_000) == "a number of about 10000 digits"
