"""Engine and sessions of a project's database, and its upgrade to the tables of this version."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session, sessionmaker

from zreward.common.errors import InputError

MIGRATIONS = Path(__file__).parent / "migrations"
WAIT = 30  # seconds that a writer waits for another one
CONNECTIONS = 24  # at once; PostgreSQL allows 100 to all of its clients


def connect(url: str) -> Engine:
    """An engine for a URL. SQLite gets a synced write-ahead log: commits survive a crash, and readers do not wait for writers.

    Raises:
        InputError: the URL cannot be read, its driver is not installed, or the database is in memory only.
    """
    try:
        kind, name = make_url(url).get_backend_name(), make_url(url).database
        if kind == "sqlite" and name in (None, "", ":memory:"):
            raise ArgumentError("a database in memory, which is forgotten when the studio stops")
        options = {"connect_args": {"timeout": WAIT}} if kind == "sqlite" else {"pool_pre_ping": True}
        engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=4, **options)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(
            f"database {url!r}: {error}; expected a URL such as postgresql+psycopg://user@host/name, and its "
            "driver installed (pip install 'zreward[postgresql]')"
        ) from None
    if kind == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def upgrade_tables(engine: Engine) -> None:
    """Make the tables, or bring those of an older version up to date, in one transaction.

    Raises:
        InputError: the database cannot be reached or read, or was made by a newer version.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":  # its driver would commit each change of a table by itself
                connection.exec_driver_sql("BEGIN")
            _check_version(engine, config, MigrationContext.configure(connection).get_current_heads())
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise InputError(f"database {engine.url!r}: {error.orig}") from None


def _check_version(engine: Engine, config: Config, found: Collection[str]) -> None:
    known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := set(found) - known:
        raise InputError(
            f"database {engine.url!r}: its tables have version {', '.join(sorted(unknown))}, made by a newer version of "
            f"zreward; this one knows {', '.join(sorted(known))}: install the newer one (pip install --upgrade zreward)"
        )


def sessions(engine: Engine) -> sessionmaker[Session]:
    """Makes sessions whose objects stay readable after a commit."""
    return sessionmaker(engine, expire_on_commit=False)


def _prepare_sqlite(connection, _record) -> None:
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={WAIT * 1000}"):
        connection.execute(f"PRAGMA {setting}")
