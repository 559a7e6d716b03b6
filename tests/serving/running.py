"""A real server in a thread, and pictures as requests hold them."""

from __future__ import annotations

import base64
import io
import threading
import time
from contextlib import contextmanager

from PIL import Image

from zreward.listening import listen, url
from zreward.serving.app import create_app
from zreward.serving.server import uvicorn_server
from zreward.serving.settings import Settings


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def text(picture: Image.Image) -> str:
    return base64.b64encode(png(picture)).decode()


@contextmanager
def running(model, **settings):
    """Base URL of a server in a thread; it has answered everything when the block ends."""
    app = create_app(model, "world:small", Settings(**settings))
    server, sockets = uvicorn_server(app), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it answered"
        time.sleep(0.01)
    try:
        yield url("127.0.0.1", sockets)
    finally:
        server.should_exit = True
        thread.join()
