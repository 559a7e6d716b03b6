"""Files that appear whole or not at all: after a full disk, a kill or an error the last good state stands, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zreward.common.errors import InputError
from zreward.common.files import (
    append_line,
    atomic_folder,
    atomic_path,
    file_digest,
    remove_folder,
    write_json,
    write_text,
)
from zreward.common.temporary import only_writer, sweep, sweep_tree
from zreward.studio.storage.project import Project, ProjectSettings, write_settings


@pytest.fixture
def umask():
    """Sets the umask for a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o666, 0o777)])
def test_modes_follow_the_umask_whatever_the_writer_makes(umask, tmp_path, mask, file, folder):
    umask(mask)
    with atomic_folder(tmp_path / "model") as made:
        save_file({"x": torch.zeros(2)}, made / "weights.safetensors")
        (made / "inner").mkdir(mode=0o700)
        (made / "inner" / "a").write_text("a")
        os.chmod(made / "inner" / "a", 0o600)
    with atomic_path(tmp_path / "one.safetensors") as temporary:
        save_file({"x": torch.zeros(2)}, temporary)
    files = [tmp_path / name for name in ("model/weights.safetensors", "model/inner/a", "one.safetensors")]
    assert [mode(path) for path in files] == [file] * 3
    assert [mode(tmp_path / "model"), mode(tmp_path / "model" / "inner")] == [folder] * 2


def half_written(writer, path: Path) -> None:
    with writer(path) as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("half")
        raise KeyError


def test_an_error_leaves_what_stood_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with atomic_folder(tmp_path / "model") as made:
        (made / "a").write_text("old")
    for writer, name in ((atomic_path, "a.txt"), (atomic_folder, "model")):
        with pytest.raises(KeyError):
            half_written(writer, tmp_path / name)
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "model" / "a").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "model"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/inner/a.json", "Not a directory"),
        ("folder", "it is a folder, expected the name of a file"),
        ("n" * 300, "File name too long"),
        ("pipe", "it is a device or pipe"),
    ],
)
def test_places_that_cannot_be_written_end_in_one_message(tmp_path, name, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=f"{name.split('/')[-1]}: cannot write: .*{message}"):
        write_json(tmp_path / name, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]


def test_a_name_as_long_as_the_file_system_takes_can_be_written(tmp_path):
    write_text(tmp_path / ("n" * 255), "x")
    with atomic_folder(tmp_path / ("m" * 255)) as made:
        (made / "a").write_text("x")
    assert len(os.listdir(tmp_path)) == 2


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


WRITERS = {
    "file": "files.write_text(path, 'x' * 100_000)",
    "safetensors": (
        "import torch, safetensors.torch as s\n"
        "with files.atomic_path(path) as t: s.save_file({'x': torch.zeros(99_999)}, t)"
    ),
    "torch": "import torch\nwith files.atomic_path(path) as t: torch.save({'x': torch.zeros(99_999)}, t)",
    "folder": "with files.atomic_folder(path) as t: (t / 'a').write_bytes(bytes(100_000))",
    "parquet": (
        "import pyarrow as pa, pyarrow.parquet as pq, os\n"
        "with files.atomic_path(path) as t: pq.write_table(pa.table({'x': [os.urandom(100_000)]}), t)"
    ),
    "picture": "from PIL import Image\nwith files.atomic_path(path) as t: Image.effect_noise((900, 900), 99).save(t, 'PNG')",
    "line": "files.append_line(path, 'y' * 100_000)",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_message_and_keeps_the_last_good_state(writer, tmp_path):
    """A file-size limit stands for the full disk: the same writers' errors, without a file system of its own."""
    path = tmp_path / "out"
    if writer == "folder":
        path.mkdir()
        (path / "a").write_text("old\n")
    else:
        path.write_text("old\n")
    code = f"import sys\nfrom zreward.common import files\nfrom zreward.common.errors import InputError\npath = {str(path)!r}\n"
    body = "".join(f"    {line}\n" for line in WRITERS[writer].splitlines())
    code += f"try:\n{body}except InputError as error:\n    print(error); sys.exit(2)"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stdout.startswith(f"{path}: cannot write: ") and len(done.stdout.splitlines()) == 1
    assert (path / "a" if writer == "folder" else path).read_text() == "old\n"
    assert os.listdir(tmp_path) == ["out"]


def test_lines_are_added(tmp_path):
    append_line(tmp_path / "a", "one")
    append_line(tmp_path / "a", "zwei ü")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "one\nzwei ü\n"


def killed(code: str) -> None:
    """Run code that kills its own process."""
    head = "import os, signal\nfrom zreward.common import files, temporary\n"
    head += "die = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_what_a_kill_left_is_removed_and_a_live_writers_file_is_not(tmp_path):
    killed(f"with files.atomic_path({str(tmp_path / 'run' / 'a')!r}) as t: t.write_text('half'); die()")
    assert len(os.listdir(tmp_path / "run")) == 1
    with atomic_path(tmp_path / "run" / "b") as temporary:
        temporary.write_text("b")
        sweep_tree(tmp_path / "run")
        assert temporary.read_text() == "b"
        assert os.listdir(tmp_path / "run") == [temporary.parent.name]
    assert os.listdir(tmp_path / "run") == ["b"]


def test_the_first_write_of_a_process_sweeps_its_folder(tmp_path):
    killed(f"with files.atomic_path({str(tmp_path / 'a')!r}) as t: t.write_text('half'); die()")
    write_text(tmp_path / "b", "b")
    assert os.listdir(tmp_path) == ["b"]


def test_a_kill_between_moving_the_old_and_the_new_brings_the_old_back(tmp_path):
    code = f"""
path = {str(tmp_path / "model")!r}
with files.atomic_folder(path) as made: (made / 'a').write_text('old')
replace = os.replace
os.replace = lambda one, two: replace(one, two) if files.OLD in str(two).split(os.sep) else die()
with files.atomic_folder(path) as made: (made / 'a').write_text('new')
"""
    killed(code)
    assert not (tmp_path / "model").exists()
    sweep_tree(tmp_path / "model")
    assert (tmp_path / "model" / "a").read_text() == "old" and os.listdir(tmp_path) == ["model"]


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path):
    code = f"""
import sys
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.common.temporary import only_writer
with only_writer(__import__('pathlib').Path({str(tmp_path / "run")!r})):
    print('held', flush=True)
    sys.stdin.read()
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="run: another process is writing there"), only_writer(tmp_path / "run"):
        pass
    first.kill()
    first.wait()
    with only_writer(tmp_path / "run"):
        (tmp_path / "run" / "a").write_text("a")
    assert os.listdir(tmp_path / "run") == ["a"]


def test_a_writer_that_wrote_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path / "run"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", ["it's", 'a "b" \\c', "line\nend: x", "- dash", "Пример 例 🎨", "yes", "#x", "{a}"])
def test_names_in_a_projects_settings_are_escaped(tmp_path, name):
    write_settings(tmp_path, ProjectSettings(name=name, database="sqlite:///a'b"))
    stored = Project(tmp_path).settings
    assert (stored.name, stored.database) == (name, "sqlite:///a'b")


def test_a_folder_is_removed_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "step-2"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights").touch()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # a kill in the middle
        remove_folder(folder)
    assert not folder.exists()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_folder(folder)  # another process was first
