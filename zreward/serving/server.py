"""`zreward serve`: own the port, load the model, listen, answer what was accepted before leaving."""

from __future__ import annotations

import sys

import uvicorn

from zreward.listening import Patience, is_open, listen, server_of, url
from zreward.models.reward_model import RewardModel
from zreward.serving.app import create_app
from zreward.serving.settings import Settings

PATIENCE = Patience(head=10, body=120, unread=20, connections=512)
HEAD_BYTES = 8 * 1024  # of a request line and its headers
_SWITCH = 0.001  # seconds that one Python thread may keep the others waiting: a fifth of the default


def serve(model: str, settings: Settings, device: str | None = None) -> None:
    """Blocks until interrupted; SIGINT and SIGTERM finish the requests in flight.

    InputError before anything is loaded where the address cannot be had, after loading for a model that cannot score.
    """
    sockets = listen(settings.host, settings.port)
    try:
        where = url(settings.host, sockets)
        app = create_app(RewardModel.from_pretrained(model, device=device), model, settings)
        app.state.scorer.warm_up()
        print(f"zreward serves {model} at {where} (documentation: {where}/docs)")
        print(f"limits: {app.state.scorer.prices.describe()}")
        if settings.token is None and is_open(sockets):
            print(f"everybody who reaches {where} may use it; set ZREWARD_TOKEN to ask for a token")
        sys.stdout.flush()
        sys.setswitchinterval(_SWITCH)
        uvicorn_server(app).run(sockets)
    finally:
        for one in sockets:
            one.close()


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
