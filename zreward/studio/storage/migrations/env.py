"""Alembic's entry: migrations run on the connection that `zreward.studio.storage.database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from zreward.studio.storage.schema import StudioTable

context.configure(
    connection=context.config.attributes["connection"], target_metadata=StudioTable.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
