"""Requests that cost a server more than their sender, and clients that only wait. To our own servers on 127.0.0.1 alone.

python -m tests.serving.attacks NAME PORT    attacks until its standard input ends, prints "begun" first and counts at the end
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import pickle
import random
import socket
import struct
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from PIL import Image

THREADS = 4  # requests of a kind at a time
SILENT = 1100  # connections


def base64_of(encoded: bytes) -> str:
    return base64.b64encode(encoded).decode()


@cache
def black(width: int, height: int) -> bytes:
    """A PNG of black pixels: two kilobytes for 16 million of them."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def noise(side: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


@cache
def scans() -> bytes:
    """A progressive JPEG of 2048 x 2048 pixels with 500 scans."""
    file = io.BytesIO()
    Image.new("L", (2048, 2048)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * 500 + whole[-2:]


@cache
def many_chunks() -> bytes:
    """A PNG with 4,000 texts before its pixels."""
    whole, text = black(16, 16), b"a\0b"
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    return whole[:33] + chunk * 4000 + whole[33:]


def items(encoded: bytes, count: int = 1, prompt: str = "a red circle") -> bytes:
    return json.dumps({"items": [{"prompt": prompt, "image": base64_of(encoded)}] * count}).encode()


def memo_bomb() -> bytes:
    return b"\x80\x04Nr" + (2**30).to_bytes(4, "little") + b"."


def many_opcodes() -> bytes:
    return b"\x80\x04](" + b"K\x01" * 40_000 + b"e."


BODIES: dict[str, Callable[[], tuple[str, list[bytes]]]] = {
    # refused, most of them by what they announce
    "black pictures": lambda: ("/v1/score", [items(black(4096, 4096), 32)]),
    "strips": lambda: ("/v1/score", [items(black(1, 60_000)), items(black(60_000, 1), 8)]),
    "long prompts": lambda: ("/v1/score", [items(black(32, 32), prompt="word " * 16_000)]),
    "empty items": lambda: ("/v1/score", [b'{"items":[' + b",".join([b"{}"] * 300_000) + b"]}"]),
    "deep JSON": lambda: ("/v1/score", [b'{"items":' * 5000 + b"1", b"[" * 30_000]),
    "junk base64": lambda: ("/v1/score", [items(b"")[:-4] + b"A" * 50_000_000 + b'"}]}']),
    "JPEG of many scans": lambda: ("/v1/score", [items(scans())]),
    "malformed": lambda: ("/v1/score", [b"{", b"\xff\xfe", b"[]", b'{"items": 3}']),
    "pickles": lambda: ("/", [memo_bomb(), many_opcodes(), pickle.dumps({"images": [print], "prompts": ["x"]})]),
    # accepted, and as dear as a request may be
    "pixels to decode": lambda: ("/v1/score", [items(black(4096, 4096), 4)]),
    "many chunks": lambda: ("/v1/score", [items(many_chunks(), 8)]),
    "large pictures": lambda: ("/v1/score", [items(noise(256), 4)]),
    "full batches": lambda: ("/v1/score", [items(noise(32), 32)]),
    "full prompts": lambda: ("/v1/score", [items(noise(32), 8, "red " * 1000)]),
}


def send(port: int, name: str, ended: threading.Event, seen: Counter) -> None:
    """Bodies of a kind, one after another, as fast as they are answered."""
    path, bodies = BODIES[name]()
    while not ended.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        try:
            connection.request("POST", path, random.choice(bodies), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
        finally:
            connection.close()


def head(path: str = "/v1/score", *more: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *more]).encode() + b"\r\n"


def connections(count: int, first: bytes, then: bytes, small_window: bool = False):
    """Connections that say `first`, then `then` every half second; those that the server closes are opened again."""

    def attack(port: int, ended: threading.Event, seen: Counter) -> None:
        held: list[socket.socket | None] = [None] * count
        while not ended.wait(0.5):
            for n, one in enumerate(held):
                try:
                    if one is None:
                        one = held[n] = socket.socket()
                        if small_window:
                            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                        one.settimeout(0.2)
                        one.connect(("127.0.0.1", port))
                        one.sendall(first)
                        seen["connections"] += 1
                    elif then:
                        one.sendall(then)
                except OSError:
                    seen["closed by the server"] += 1
                    if one is not None:
                        one.close()
                    held[n] = None
            begun()
        for one in held:
            if one is not None:
                one.close()

    return attack


def crumbs(port: int, ended: threading.Event, seen: Counter) -> None:
    """A chunked body of one-byte chunks."""
    while not ended.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(head("/v1/score", "Transfer-Encoding: chunked") + b"\r\n")
            for _ in range(100):
                one.sendall(b"1\r\n \r\n" * 5000)
        seen["connections"] += 1


def lying_lengths(port: int, ended: threading.Event, seen: Counter) -> None:
    """A length far above, or far below, what comes; then gone."""
    body = items(noise(32))
    while not ended.is_set():
        for stated in (10**12, 60_000_000, len(body) + 100, 5, -1):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as one:
                one.sendall(head("/v1/score", f"Content-Length: {stated}") + b"\r\n" + body)
                one.settimeout(0.05)
                one.recv(100)
            seen["connections"] += 1


LENGTH = "Content-Length: 60000000"
CLIENTS: dict[str, Callable[[int, threading.Event, Counter], None]] = {
    "idle connections": connections(SILENT, b"", b""),
    "unfinished heads": connections(SILENT, head()[:-2] + b"\r\nX: ", b""),
    "slow heads": connections(200, head(), b"X: y\r\n"),
    "slow bodies": connections(200, head("/v1/score", LENGTH) + b"\r\n", b" "),
    "slow readers": connections(50, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50, b"", small_window=True),
    "crumbs": crumbs,
    "lying lengths": lying_lengths,
}
ATTACKS = (*BODIES, *CLIENTS)
_begun = threading.Event()


def begun() -> None:
    if not _begun.is_set():
        _begun.set()
        print("begun", flush=True)


def main(name: str, port: int) -> None:
    ended, seen = threading.Event(), Counter()
    if name in BODIES:
        BODIES[name]()  # made before it is said that the attack has begun
        runs = [lambda: send(port, name, ended, seen)] * THREADS
        begun()
    else:
        runs = [lambda: CLIENTS[name](port, ended, seen)]
        if CLIENTS[name] in (crumbs, lying_lengths):
            begun()
    threads = [threading.Thread(target=run, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    print(dict(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
