"""`label` and `evaluate` with a teacher behind an endpoint: files, resuming, dry runs, accounts."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from fastapi.responses import PlainTextResponse

from tests.commands.inputs import complains, records
from tests.endpoint.server import serving
from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.data import load_records
from zreward.training.recipe import DataRecipe
from zreward.training.targets import distilled_items


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model("qwen3_vl", seed=1), 3)


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


@pytest.fixture
def data(tmp_path):
    rows = []
    for n, picture in enumerate(noise_pictures(6)):
        picture.save(tmp_path / f"{n}.png")
        rows.append({"prompt": f"a red circle {n // 2}", "image": f"{n}.png", "scores": {"realism": 1 + n % 5}})
    return records(tmp_path / "pool.jsonl", *rows)


def settings(tmp_path, url, folder, **more) -> str:
    chosen = {"url": url, "model": "judge", "checkpoint": str(folder), "top_logprobs": 500, "retries": 0} | more
    (tmp_path / "teacher.yaml").write_text(json.dumps(chosen))
    return f"endpoint:{tmp_path / 'teacher.yaml'}"


def rows_of(out) -> list[dict]:
    return [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_label_and_resume(zreward, model, folder, data, tmp_path):
    label = ("--data", data, "--shard-size", 2, "--batch-size", 2, "--traces", 2, "--dimensions", "realism")
    with serving(model, most=500) as (url, served):
        teacher = settings(tmp_path, url, folder)
        code, _, err = zreward("label", teacher, *label, "--out", tmp_path / "whole")
        assert code == 0, err
        assert "12 distributions" in err and "0 retries" in err and "prompt tokens" in err
        begun = len(served.asked)
        assert zreward("label", teacher, *label, "--out", tmp_path / "whole")[0] == 0
        assert len(served.asked) == begun + 4  # the questions that find out how to ask

        served.mood += [None] * 20 + [PlainTextResponse("broken")]
        complains(zreward("label", teacher, *label, "--out", tmp_path / "cut"), "is not JSON", "dimension 'realism'")
        kept = len(list((tmp_path / "cut").glob("*.parquet")))
        assert 0 < kept < 3
    with serving(model, most=500) as (url, served):  # it has moved
        teacher = settings(tmp_path, url, folder)
        assert zreward("label", teacher, *label, "--out", tmp_path / "cut")[0] == 0
        complains(zreward("label", teacher, *label, "--out", tmp_path / "cut", "--temperature", 0.5), "temperature")
        other = settings(tmp_path, url, folder, max_trace_tokens=3)
        complains(zreward("label", other, *label, "--out", tmp_path / "cut"), "max_trace_tokens")
    for n in range(3):
        name = f"targets-{n:05d}.parquet"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    rows = rows_of(tmp_path / "whole")
    assert len(rows) == 6 and all(row["bounded"] == 0 and len(row["traces"]) == 2 for row in rows)
    assert all(row["completion_tokens"] > row["tokens"] * 2 and row["prompt_tokens"] > 0 for row in rows)
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert manifest["teacher"] == teacher and manifest["teacher_model"]["endpoint_model"] == "judge"
    items = distilled_items(tmp_path / "whole", load_records(data), DataRecipe(train=str(data)), model)
    assert [item.target.tolist() for item in items] == [pytest.approx(row["probs"]) for row in rows]


def test_direct_labels_are_the_local_ones(zreward, model, folder, data, tmp_path):
    with serving(model, most=500) as (url, _):
        teacher = settings(tmp_path, url, folder)
        assert zreward("label", teacher, "--data", data, "--out", tmp_path / "remote", "--direct")[0] == 0
    assert zreward("label", folder, "--data", data, "--out", tmp_path / "local", "--direct")[0] == 0
    remote, local = rows_of(tmp_path / "remote"), rows_of(tmp_path / "local")
    assert len(remote) == len(local) == 24
    for mine, other in zip(remote, local, strict=True):
        torch.testing.assert_close(torch.tensor(mine["probs"]), torch.tensor(other["probs"]), rtol=0, atol=1e-5)
        assert {key: mine[key] for key in ("record", "prompt", "dimension", "traces", "tokens")} == {
            key: other[key] for key in ("record", "prompt", "dimension", "traces", "tokens")
        }
        assert set(mine) - set(other) == {"bounded", "prompt_tokens", "completion_tokens"}


def test_parts_of_several_jobs_are_merged(zreward, model, folder, data, tmp_path):
    label = ("--data", data, "--shard-size", 2, "--direct")
    with serving(model, most=500) as (url, _):
        teacher = settings(tmp_path, url, folder)
        assert zreward("label", teacher, *label, "--out", tmp_path / "whole")[0] == 0
        for shard in ("1/2", "2/2"):
            assert zreward("label", teacher, *label, "--out", tmp_path / "parts", "--shard", shard)[0] == 0
    assert zreward("merge", tmp_path / "parts")[0] == 0
    assert rows_of(tmp_path / "parts") == rows_of(tmp_path / "whole")


def test_a_dry_run_asks_a_few_small_questions_and_writes_nothing(zreward, model, folder, data, tmp_path):
    with serving(model, most=500) as (url, served):
        teacher = settings(tmp_path, url, folder)
        code, out, _ = zreward("label", teacher, "--data", data, "--out", tmp_path / "targets", "--dry-run")
        assert code == 0 and "loads, and labels alignment" in out and not (tmp_path / "targets").exists()
        assert all(body["max_tokens"] == 1 for body in served.asked)


def test_evaluate(zreward, model, folder, data, tmp_path):
    with serving(model, most=500) as (url, _):
        teacher = settings(tmp_path, url, folder)
        remote = zreward("evaluate", teacher, "--data", data, "--html", tmp_path / "page.html", "--json")
        reasoned = zreward("evaluate", teacher, "--data", data, "--reasoning", "--json")
    local = zreward("evaluate", folder, "--data", data, "--json")
    assert remote[0] == reasoned[0] == 0, remote[2]
    assert "is an upper bound for labels that were not listed" in (tmp_path / "page.html").read_text()
    assert "distributions" in remote[2] and "distributions" not in local[2]
    for mine, other in zip(json.loads(remote[1]), json.loads(local[1]), strict=True):
        assert mine == pytest.approx(other, abs=1e-4, nan_ok=True)
    assert json.loads(reasoned[1])[0]["output_tokens"] > 1


def test_what_cannot_be_asked_for(zreward, folder, data, tmp_path):
    teacher = settings(tmp_path, "http://127.0.0.1:1/v1", folder)
    complains(
        zreward("evaluate", teacher, "--data", data, "--device", "cpu"), "--device has no effect with an endpoint"
    )
    complains(zreward("evaluate", teacher, "--data", data), "http://127.0.0.1:1/v1", "is the server running")
    complains(
        zreward("score", teacher, "--data", data, "--out", tmp_path / "s.parquet"), "endpoints are for `zreward label`"
    )
    complains(
        zreward("label", "endpoint:judge", "--data", data, "--out", tmp_path / "x"), "expected endpoint:URL#MODEL"
    )
