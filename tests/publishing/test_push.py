"""`zreward push` against a hub that is replaced where HTTP begins; the card; `zreward export` and `push` as commands."""

from __future__ import annotations

import ast
import base64
import json
import shlex
from collections.abc import Iterator

import httpx
import huggingface_hub
import pytest

from tests.commands.conftest import zreward as zreward  # the command line
from tests.commands.inputs import complains
from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.publishing.card import MADE, CardFacts
from zreward.publishing.export import export
from zreward.publishing.push import push
from zreward.publishing.readme import usage

FACTS = CardFacts("apache-2.0", "800 drawn pictures, each rated by nine people.", "Qwen/Qwen3.5-9B")


class Hub:
    """What huggingface_hub meets: repositories and commits."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.created: list[dict] = []
        self.refuses: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.calls.append((request.method, path))
        if self.refuses:
            return httpx.Response(self.refuses, json={"error": "You are not allowed"}, request=request)
        if path == "/api/repos/create":
            self.created.append(json.loads(request.content))
            return httpx.Response(200, json={"url": "https://huggingface.co/me/judge"}, request=request)
        if path == "/api/validate-yaml":
            return httpx.Response(200, json={"errors": [], "warnings": []}, request=request)
        if path.endswith("/preupload/main"):
            names = [each["path"] for each in json.loads(request.content)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            return httpx.Response(200, json={"files": modes}, request=request)
        if path.endswith("/commit/main"):
            for line in map(json.loads, request.content.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = "https://huggingface.co/me/judge/commit/0123"
            return httpx.Response(
                200, json={"commitUrl": url, "commitOid": "0123", "hookOutput": "", "success": True}, request=request
            )
        return httpx.Response(404, json={"error": f"no such path: {path}"}, request=request)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    made = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: "hf_secret", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(made)))
    yield made
    from huggingface_hub.utils import _http

    huggingface_hub.set_client_factory(_http.default_client_factory)


@pytest.fixture
def folder(tmp_path):
    export(tiny_model("qwen3_vl"), tmp_path / "judge")
    left = (
        "optimizer.pt",
        "trainer_state.json",
        "training_args.json",
        "rng_state_0.json",
        "scheduler.json",
        "optimizer.json",
    )
    for name in (*left, "notes.md", "training_args.bin"):
        (tmp_path / "judge" / name).write_text("{}")
    return tmp_path / "judge"


def test_what_is_sent(hub, folder):
    pushed = push(folder, "me/judge", FACTS, private=True)
    assert pushed.url.endswith("/commit/0123") and not pushed.has_own_card
    assert (
        set(hub.files)
        == set(pushed.files)
        == {
            *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
            *(
                "preprocessor_config.json",
                "processor_config.json",
                "request.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ),
            *("video_preprocessor_config.json", "zreward.json"),
        }
    )
    assert hub.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    (created,) = hub.created
    assert created["name"] == "judge" and created["organization"] == "me"
    assert created.get("private") is True or created.get("visibility") == "private"


def test_the_card(folder, tmp_path):
    rows = [
        {"dimension": "realism", "plcc": 0.81234, "srcc": 0.8, "hpa": 0.9, "n_items": 1200, "ece": float("nan")},
        {"dimension": "all", "plcc": 0.7, "srcc": 0.6, "hpa": None, "n_items": 4800},
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    facts = CardFacts(
        "apache-2.0",
        FACTS.data,
        FACTS.base,
        tmp_path / "metrics.json",
        "zreward evaluate judge --data test.jsonl",
        ("Small.",),
    )
    pushed = push(folder, "me/judge", facts, dry_run=True)
    text = (folder / "README.md").read_text()
    header = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert pushed.url == "" and (header.license, header.base_model) == ("apache-2.0", "Qwen/Qwen3.5-9B")
    assert header.tags == ["zreward", "reward-model", "image-quality"] and header.library_name == "zreward"
    for part in (
        "# judge\n",
        "scores from 1 to 5 in steps of 0.5, labels 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "**Realism** (`realism`): rate the realism\n\n- 5: all right\n- 1: all wrong",
        f"## Data\n\n{FACTS.data}",
        "```sh\nzreward evaluate judge --data test.jsonl\n```",
        "| dimension | plcc | srcc | hpa | ece | n_items |",
        "| realism | 0.812 | 0.800 | 0.900 | – | 1,200 |",
        "| all | 0.700 | 0.600 | – | – | 4,800 |",
        "hf download me/judge --local-dir judge",
        "### With vLLM",
        "- Small.",
        "## Licence\n\napache-2.0",
        MADE,
    ):
        assert part in text, part
    push(folder, "me/other", FACTS, dry_run=True)  # written again
    text = (folder / "README.md").read_text()
    assert "# other" in text and "None were stated" in text
    (folder / "README.md").write_text("My own words.")
    assert push(folder, "me/judge", FACTS, dry_run=True).has_own_card
    assert (folder / "README.md").read_text() == "My own words."


def test_nothing_of_this_machine_is_published(hub, folder, tmp_path):
    """Hidden files, links to files elsewhere, and what is named after a secret."""
    (folder / ".token.json").write_text("{}")
    (tmp_path / "id").write_text("private")
    for name in ("vocab.txt", "README.md"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "id")
        with pytest.raises(
            InputError, match=f"{name} is a link to {tmp_path / 'id'}, whose content would be published"
        ):
            push(folder, "me/judge", FACTS)
        (folder / name).unlink()
    for name in ("credentials.json", "hf_token.txt", "my-secrets.json", "API_KEY.txt"):
        (folder / name).write_text("{}")
        with pytest.raises(InputError, match=f"{name} would be published, and its name speaks of a secret"):
            push(folder, "me/judge", FACTS)
        (folder / name).unlink()
    assert not hub.calls and (tmp_path / "id").read_text() == "private"
    sent = push(folder, "me/judge", FACTS).files
    assert ".token.json" not in sent and "tokenizer.json" in sent and "README.md" in sent
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (folder / name).write_text("{}")
    assert len(push(folder, "me/judge", FACTS, dry_run=True).files) == len(sent) + 2


def test_a_checkpoint_in_the_hubs_own_cache_is_made_of_links(folder, tmp_path):
    place = tmp_path / "models--me--judge" / "snapshots" / "0123"
    blobs = tmp_path / "models--me--judge" / "blobs"
    place.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        file.rename(blobs / file.name)
        (place / file.name).symlink_to(blobs / file.name)
    assert "model.safetensors" in push(place, "me/judge", FACTS, dry_run=True).files


def test_a_link_is_followed_and_stays(tmp_path):
    """The other disk, to which it leads, may be the one with space."""
    (tmp_path / "there").mkdir()
    for name, target in (("link", "there"), ("new", "not-yet")):
        (tmp_path / name).symlink_to(tmp_path / target)
        export(tiny_model("qwen3_vl"), tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / target / "model.safetensors").is_file()


def test_the_current_folder_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (".", "", str(tmp_path)):
        with pytest.raises(InputError, match="is the current folder, which cannot be replaced"):
            export(tiny_model("qwen3_vl"), out)


def test_a_folders_name_runs_nothing_in_the_commands_of_its_readme():
    name = 'judge"; touch ran $(touch ran) `touch ran` #'
    text = usage(name, "realism", exact=True)
    command = next(line for line in text.splitlines() if line.startswith("vllm serve"))
    assert shlex.split(command)[2] == shlex.split(command)[4] == name
    for block in text.split("```python\n")[1:]:
        literals = [node.value for node in ast.walk(ast.parse(block.split("```")[0])) if isinstance(node, ast.Constant)]
        assert {name, f"{name}/request.json"} & set(literals)


def test_a_card_is_written_whole_or_not_at_all(folder, monkeypatch):
    before = (folder / "README.md").read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"README.md: cannot write: No space left"):
        push(folder, "me/judge", FACTS, dry_run=True)
    assert (folder / "README.md").read_text() == before


def test_metrics_that_are_nested_without_end(folder, tmp_path):
    (tmp_path / "metrics.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"metrics.json is no JSON .*recursion"):
        push(folder, "me/judge", CardFacts("mit", "Data.", "", tmp_path / "metrics.json", "x"), dry_run=True)


def test_what_is_refused_before_anything_is_sent(hub, folder, tmp_path):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "bare").mkdir()
    for place, repo, told in (
        (folder, "judge", "expected OWNER/NAME"),
        (folder, "me/ju dge", "me/ju dge"),
        (tmp_path / "nowhere", "me/judge", "no such checkpoint folder"),
        (tmp_path / "pickled", "me/judge", "safetensors only"),
        (tmp_path / "bare", "me/judge", "no safetensors weights"),
    ):
        with pytest.raises(InputError, match=told):
            push(place, repo, FACTS)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"is a LoRA adapter, .*`zreward export .* OUT --merge`"):
        push(folder, "me/judge", FACTS)
    (folder / "adapter_config.json").unlink()
    (folder / "zreward.json").unlink()
    with pytest.raises(InputError, match=r"has no zreward.json"):
        push(folder, "me/judge", FACTS)
    with pytest.raises(InputError, match="--license is empty"):
        CardFacts(" ", "x")
    with pytest.raises(InputError, match="--metrics and --command belong together"):
        CardFacts("mit", "x", metrics=tmp_path / "m.json")
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(InputError, match=r"expected what `zreward evaluate --json"):
        push(_again(folder), "me/judge", CardFacts("mit", "x", "", tmp_path / "m.json", "zreward evaluate"))
    assert hub.calls == []


def _again(folder):
    tiny_model("qwen3_vl").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_hub_that_refuses(hub, folder, status):
    hub.refuses = status
    with pytest.raises(InputError, match="me/judge: the hub did not take it .*; `hf auth login`") as found:
        push(folder, "me/judge", FACTS)
    assert "hf_secret" not in str(found.value)


def test_without_a_network(folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="the hub did not take it"):
        push(folder, "me/judge", FACTS)


def test_commands(zreward, hub, tmp_path):
    model = tiny_model("qwen3_vl")
    model.save_pretrained(tmp_path / "model")
    code, out, err = zreward("export", tmp_path / "model", tmp_path / "judge", "--device", "cpu")
    assert code == 0 and f"{tmp_path / 'judge' / 'request.json'} holds the requests" in out, err
    assert RewardModel.from_pretrained(tmp_path / "judge").rubric.name == "tiny"
    complains(zreward("export", tmp_path / "model", tmp_path / "judge"), "is there already")
    words = (
        "push",
        tmp_path / "judge",
        "me/judge",
        "--license",
        "mit",
        "--data",
        "Ours.",
        "--limits",
        "One.",
        "--limits",
        "Two.",
    )
    code, out, err = zreward(*words, "--dry-run")
    assert code == 0 and "to send: README.md, " in out and not hub.calls, err
    assert "- One.\n- Two." in (tmp_path / "judge" / "README.md").read_text()
    code, out, err = zreward(*words)
    assert code == 0 and "sent: README.md" in out and "/commit/0123" in out, err
    assert zreward(*words[:3], "--license", "mit")[0] == 2  # what it was trained on is asked for
