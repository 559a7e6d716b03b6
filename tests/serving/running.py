"""A real server in a thread, and pictures as requests hold them."""

from __future__ import annotations

import base64
import io
import threading
import time
from contextlib import contextmanager

import uvicorn
from PIL import Image

from zreward.serving.app import create_app
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
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
