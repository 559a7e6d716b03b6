"""The project folder: what lies outside stays outside; the database is that of this version."""

from __future__ import annotations

import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from typer.testing import CliRunner

from zreward.cli.main import app as commands
from zreward.common.errors import InputError
from zreward.studio.storage.database import connect, upgrade_tables
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import StudioTable


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "images/../../secret.txt", "link/secret.txt", ""])
def test_files_outside_the_project_are_refused(project, path):
    (project.folder.parent / "secret.txt").write_text("x")
    (project.folder / "link").symlink_to(project.folder.parent)
    with pytest.raises(InputError, match="outside the project"):
        project.file(path)
    assert project.file("images/1-0.png").is_file()


def test_a_folder_that_is_no_project_is_named(tmp_path):
    with pytest.raises(InputError, match="create one with `zreward studio init`"):
        Project(tmp_path)


def test_the_secret_stays_and_only_its_owner_reads_it(project):
    assert project.secret() == Project(project.folder).secret()
    assert stat.S_IMODE((project.folder / ".secret").stat().st_mode) == 0o600


def test_migrations_make_the_tables_that_the_code_uses(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'new.sqlite'}")
    upgrade_tables(engine)
    upgrade_tables(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), StudioTable.metadata) == []


def test_sqlite_syncs_what_it_confirms(project):
    with connect(project.database_url).connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {key}").scalar() for key in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", 'it\'s "a" \\', "a\nb"])
def test_a_folder_of_any_name_holds_its_database(tmp_path, name):
    """`?` and `%` mean something in a database's URL: the file would lie elsewhere."""
    (tmp_path / name).mkdir()
    write_settings(tmp_path / name, ProjectSettings())
    upgrade_tables(connect(Project(tmp_path / name).database_url))
    assert (tmp_path / name / "studio.sqlite").stat().st_size > 0
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_no_address_is_printed_before_the_studio_can_be_shown(project):
    (project.folder / ".secret").write_bytes(b"short")
    done = CliRunner().invoke(commands, ["studio", "serve", str(project.folder), "--port", "0"])
    assert isinstance(done.exception, InputError) and "too short" in str(done.exception) and "http" not in done.output


@pytest.mark.parametrize("url", ["nothing", "postgresql+nodriver://x/y", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_be_is_named(url):
    with pytest.raises(InputError, match="expected a URL such as postgresql"):
        connect(url)
