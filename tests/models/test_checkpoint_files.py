"""Damaged and hostile checkpoints: each ends in one message that names the file, quickly, and nothing of it is run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.models.weight_files import files_fingerprint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tiny_model(seed=2).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def edit(name, **changes):
    def change(folder):
        file = folder / name
        stored = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(stored | changes))

    return change


def nested(name, key, **changes):
    def change(folder):
        stored = json.loads((folder / name).read_text())
        stored[key] |= changes
        (folder / name).write_text(json.dumps(stored))

    return change


def rope(**changes):
    def change(folder):
        stored = json.loads((folder / "config.json").read_text())
        stored["text_config"]["rope_parameters"] |= changes
        (folder / "config.json").write_text(json.dumps(stored))

    return change


def replaced(name, make):
    def change(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


def form(text):
    return nested("zreward.json", "forms", prompt=text)


def bind(path):
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def header(length, table=b"{}", data=b""):
    def change(folder):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + table + data)

    return change


def tensors(**entries):
    table = json.dumps({"__metadata__": {"format": "pt"}} | entries).encode()
    return header(len(table), table, b"\0" * 64)


def index(weight_map):
    def change(folder):
        (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


F32 = {"dtype": "F32", "shape": [4]}
CASES = {
    # What is no regular file, or too large.
    "a pipe": (replaced("config.json", os.mkfifo), r"config.json: is a pipe"),
    "a device": (replaced("tokenizer.json", lambda path: path.symlink_to("/dev/zero")), "tokenizer.json: is a device"),
    "a socket": (replaced("chat_template.jinja", bind), "chat_template.jinja: is a socket"),
    "a folder": (replaced("zreward.json", Path.mkdir), "zreward.json.*([Ii]s a (folder|directory))"),
    "a dangling link": (
        replaced("preprocessor_config.json", lambda path: path.symlink_to("nowhere")),
        "preprocessor_config.json: a link to nowhere, which is not there",
    ),
    "weights that are a pipe": (replaced("model.safetensors", os.mkfifo), "model.safetensors: is a pipe"),
    "a giant": (
        replaced("zreward.json", lambda path: path.write_bytes(b" " * (17 << 20))),
        "zreward.json: 17,8.* bytes",
    ),
    # Code, and places elsewhere.
    "code in the config": (edit("config.json", auto_map={"AutoConfig": "evil.C"}), "config.json names code of its own"),
    "code in the tokenizer": (
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "tokenizer_config.json names code of its own",
    ),
    "code in the processor": (
        edit("processor_config.json", auto_map={"AutoProcessor": "e.P"}),
        "processor_config.json",
    ),
    "code deep inside": (nested("config.json", "text_config", auto_map={"A": "e.C"}), "auto_map"),
    "code of a kernel": (edit("config.json", _attn_implementation="somebody/kernel"), "names code of its own"),
    "a tokenizer elsewhere": (edit("tokenizer_config.json", vocab_file="/dev/zero"), "vocab_file is '/dev/zero'"),
    "merges elsewhere": (edit("tokenizer_config.json", merges_file="../x"), "merges_file is '../x'"),
    # JSON that is odd.
    "deep JSON": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "nested too deeply"),
    "a list": (lambda folder: (folder / "tokenizer_config.json").write_text("[1]"), "holds a JSON list"),
    "cut JSON": (lambda folder: os.truncate(folder / "preprocessor_config.json", 9), "damaged or cut off"),
    "a pointer for JSON": (
        lambda folder: (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "many layers": (nested("config.json", "text_config", num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "a wide model": (nested("config.json", "text_config", hidden_size=10**7), "cannot be loaded|describes a model of"),
    "a large vocabulary": (nested("config.json", "text_config", vocab_size=10**9), "describes a model of"),
    "patches of 0": (nested("config.json", "vision_config", patch_size=0), "cannot be loaded"),
    "large patches": (
        nested("config.json", "vision_config", patch_size=10**9),
        "cannot be loaded|describes a model of",
    ),
    "a type that is unknown": (edit("config.json", model_type="evil"), "cannot be loaded"),
    "a type that is a number": (edit("config.json", model_type=7), "cannot be loaded"),
    # Colours.
    "no numbers": (edit("preprocessor_config.json", image_mean="abc"), "image_mean is 'abc', expected three numbers"),
    "one number": (edit("preprocessor_config.json", image_mean=[0.5]), "expected three numbers"),
    "NaN": (edit("preprocessor_config.json", image_mean=[0.5, 0.5, float("nan")]), "expected three numbers"),
    "1e999": (edit("preprocessor_config.json", image_std=[0.5, 0.5, float("inf")]), "expected three numbers above 0"),
    "a spread of 0": (edit("preprocessor_config.json", image_std=[0, 0.5, 0.5]), "expected three numbers above 0"),
    "yes": (edit("preprocessor_config.json", image_mean=[True, 0.5, 0.5]), "expected three numbers"),
    "a processor that is a list": (edit("preprocessor_config.json", image_processor=[1]), "image_processor is .1."),
    # zreward.json.
    "a list of types": (edit("zreward.json", dtype=["x"]), r"dtype is \['x'\]"),
    "an endless trace": (edit("zreward.json", max_trace_tokens=10**12), "max_trace_tokens is 1000000000000"),
    "no trace": (edit("zreward.json", max_trace_tokens=-5), "max_trace_tokens is -5"),
    "a resolution without end": (edit("zreward.json", resolution={"longest_side": 10**400}), "longest_side"),
    "forms that are a list": (edit("zreward.json", forms=["x"]), "prompt forms are"),
    "a wide form": (form("{prompt:>999999999}"), "changes {prompt} by a format"),
    "a nested width": (form("{prompt:{prompt}}"), "changes {prompt} by a format"),
    "a conversion": (form("{prompt!r}"), "changes {prompt} by a format or conversion"),
    "an unknown conversion": (form("{prompt!z}"), "conversion"),
    "an attribute": (form("{prompt.__class__}"), r"uses \['prompt.__class__'\]"),
    "an item": (form("{prompt[0]}"), "uses"),
    "a place": (form("{} {0}"), "uses"),
    "a long form": (form("x" * 10_001), "10,001 letters"),
    "many fields": (form("{prompt}" * 17), "17 fields"),
    # The tokenizer.
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "no tokenizer|cannot be loaded as a tokenizer|label",
    ),
    "a cut tokenizer": (
        lambda folder: os.truncate(folder / "tokenizer.json", 1_000),
        "cannot be loaded as a tokenizer",
    ),
    "a deep tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("[" * 100_000),
        "cannot be loaded as a tokenizer",
    ),
    "a looping template": (
        lambda folder: (folder / "chat_template.jinja").write_text(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
        ),
        "the chat template loops",
    ),
    # Weights.
    "a pointer for weights": (
        lambda folder: (folder / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\nsize 9\n"
        ),
        "Git LFS pointer, not the weights themselves",
    ),
    "no bytes": (lambda folder: os.truncate(folder / "model.safetensors", 0), "cut off or no safetensors"),
    "cut weights": (lambda folder: os.truncate(folder / "model.safetensors", 20_000), "cut off or damaged"),
    "a header without end": (header(2**63), "its table alone would have"),
    "a header that is no JSON": (header(2, b"no"), "cut off or damaged"),
    "overlapping weights": (
        tensors(a=F32 | {"data_offsets": [0, 16]}, b=F32 | {"data_offsets": [8, 24]}),
        "cut off or damaged",
    ),
    "weights behind the end": (tensors(a=F32 | {"data_offsets": [10**12, 10**12 + 16]}), "cut off or damaged"),
    "a shape that does not fit": (tensors(a=F32 | {"shape": [10**9], "data_offsets": [0, 16]}), "cut off or damaged"),
    "an index to another folder": (index({"a": "../elsewhere.safetensors"}), "names weights in '../elsewhere"),
    "an index to the root": (index({"a": "/etc/passwd"}), "names weights in '/etc/passwd'"),
    "an index to a pickle": (index({"a": "model.bin"}), "names weights in 'model.bin'"),
    "a missing shard": (
        index({"a": "model-00001-of-00002.safetensors"}),
        "which is not there: the checkpoint is incomplete",
    ),
    "an index of numbers": (index({"a": 1}), "weight_map is"),
    "another model's tokenizer": (
        edit("tokenizer_config.json", eos_token="<a token that has no embedding>"),
        r"the tokenizer has token ids up to \d+, the model embeddings for \d+ tokens",
    ),
    "a length that is a text": (
        edit("tokenizer_config.json", model_max_length="long"),
        "cannot be loaded as a tokenizer",
    ),
    "an empty unknown token": (edit("tokenizer_config.json", unk_token=""), "cannot be loaded as a reward model"),
    "positions that only fail in a pass": (rope(mrope_section={}), "cannot be loaded as a model that can score"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "describes a model of|safetensors"),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_a_damaged_or_hostile_checkpoint_is_told_in_one_message(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        RewardModel.from_pretrained(folder).score([torch.rand(3, 32, 32)], "x")
    assert (
        str(folder) in str(caught.value)
        or "prompt forms" in message
        or "template" in message
        or "label" in message
        or "the tokenizer" in message
    )
    assert len(str(caught.value)) < 1200


def test_an_empty_control_token_is_none(folder):
    edit("tokenizer_config.json", bos_token="")(folder)
    assert RewardModel.from_pretrained(folder).score([torch.rand(3, 32, 32)], "x").mean.isfinite().all()


def test_a_null_mean_is_the_model_s_own(folder):
    edit("preprocessor_config.json", image_mean=None)(folder)
    assert RewardModel.from_pretrained(folder).layout.mean == (0.5, 0.5, 0.5)


def test_a_fingerprint_follows_the_numbers_and_not_the_files(saved, folder, monkeypatch):
    from zreward.models import weight_files

    first = files_fingerprint(saved)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    save_file({name: weights[name] for name in names[:5]}, folder / "model-1.safetensors")
    save_file({name: weights[name] for name in names[5:]}, folder / "model-2.safetensors")
    assert files_fingerprint(folder) == first
    for name in (names[0], names[-1]):
        changed = weights[name].flatten().clone()
        changed[-1] += 1
        other = {n: weights[n] for n in names} | {name: changed.view_as(weights[name])}
        save_file(other, folder / "model-1.safetensors")
        (folder / "model-2.safetensors").unlink(missing_ok=True)
        assert files_fingerprint(folder) != first
        monkeypatch.setattr(weight_files, "_WHOLE", 0)  # as for more than 1 GiB
        assert files_fingerprint(folder) != files_fingerprint(saved)
        monkeypatch.undo()
