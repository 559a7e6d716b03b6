"""uvicorn as this server wants it: an end to every wait for a client."""

from __future__ import annotations

import uvicorn

from zreward.common.listening import Patience, server_of

PATIENCE = Patience(head=10, body=120, unread=20, connections=512)
HEAD_BYTES = 8 * 1024  # of a request line and its headers


def uvicorn_server(app: object) -> uvicorn.Server:
    """uvicorn with an end to every wait for a client, and without a line in the log for each malformed request."""
    return server_of(
        app,
        PATIENCE,
        log_level="error",
        access_log=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=int(PATIENCE.head),
        timeout_graceful_shutdown=60,
    )
