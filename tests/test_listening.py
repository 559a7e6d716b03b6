"""A port of one's own, and clients that say nothing, never end, or do not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="pip install 'zreward[serve]'")

from zreward.common import listening  # noqa: E402
from zreward.common.errors import InputError  # noqa: E402
from zreward.common.listening import Patience, PatientProtocol, is_open, listen, url  # noqa: E402

SHORT = Patience(head=0.3, body=0.3, unread=0.3, connections=8)
PLENTY = 30.0  # seconds after which a test that waits has failed
BIG = b"x" * 20_000_000


async def app(scope, receive, send):
    """Reads the body, then answers with as many bytes as the path says."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    body = BIG if scope["path"] == "/big" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    for start in range(0, len(body), 65536):
        rest = start + 65536 < len(body)
        await send({"type": "http.response.body", "body": body[start : start + 65536], "more_body": rest})


@contextlib.contextmanager
def served(patience: Patience):
    sockets = listen("127.0.0.1", 0)
    protocol = type("Protocol", (PatientProtocol,), {"patience": patience})
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets)))
    thread.start()
    try:
        yield server, sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def connect(port: int, *, room: int | None = None) -> socket.socket:
    made = socket.socket()
    made.settimeout(PLENTY)
    if room:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    made.connect(("127.0.0.1", port))
    return made


def is_ended(one: socket.socket) -> bool:
    """Waits for the server to end the connection; what it sends before is thrown away."""
    try:
        while one.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def wait_for(condition) -> None:
    end = time.monotonic() + PLENTY
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nHost:", POST, POST + b"a=1"], ids=["silent", "head", "body", "part"]
)
def test_whoever_does_not_finish_is_let_go(said):
    with served(SHORT) as (_, port):
        one = connect(port)
        one.sendall(said)
        assert is_ended(one)


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\n", POST, GET], ids=["head", "body", "second request"])
def test_a_byte_now_and_then_puts_nothing_off(begin):
    with served(SHORT) as (_, port):
        one = connect(port)
        one.sendall(begin)
        with contextlib.suppress(ConnectionError):
            end = time.monotonic() + PLENTY
            while time.monotonic() < end:
                one.sendall(b"x")
                time.sleep(0.02)
            pytest.fail("the connection was kept")


def test_an_answer_that_nobody_reads_is_given_up():
    with served(SHORT) as (server, port):
        one = connect(port, room=4096)
        one.sendall(GET.replace(b"/ ", b"/big "))
        wait_for(lambda: server.server_state.tasks)
        wait_for(lambda: not server.server_state.connections and not server.server_state.tasks)
        one.close()


def test_a_reader_who_reads_gets_all_of_it():
    with served(SHORT) as (_, port):
        one = connect(port, room=4096)
        one.sendall(GET.replace(b"/ ", b"/big "))
        found = 0
        while found < len(BIG):
            part = one.recv(1 << 20)
            assert part
            found += len(part)


def test_who_was_waited_for_longest_makes_room():
    patience = Patience(connections=8)  # nobody is let go for being slow
    with served(patience) as (server, port):
        silent = [connect(port) for _ in range(30)]
        wait_for(lambda: len(server.server_state.connections) == 8)
        late = connect(port)
        late.sendall(GET)
        assert late.recv(100).startswith(b"HTTP/1.1 200")
        assert is_ended(silent[0])
        silent[-1].sendall(GET)
        assert silent[-1].recv(100).startswith(b"HTTP/1.1 200")


def test_a_port_has_one_owner_and_the_next_is_told_so():
    (first,) = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(InputError, match=rf"port {port} of 127\.0\.0\.1 is taken.*--port"):
        listen("127.0.0.1", port)
    assert url("127.0.0.1", [first]) == f"http://127.0.0.1:{port}"
    first.close()
    listen("127.0.0.1", port)[0].close()


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [("", 8080, "host is empty"), ("127.0.0.1", 65536, "1 to 65535"), ("127.0.0.1", -1, "1 to 65535"),
     ("no such host", 80, "no such host"), ("192.0.2.1", 0, "cannot listen on 192.0.2.1"), ("a" * 300, 80, "host 'aaa")],
)  # fmt: skip
def test_addresses_that_cannot_be(host, port, message):
    with pytest.raises(InputError, match=message):
        listen(host, port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_an_ipv6_address_is_shown_in_brackets():
    try:
        sockets = listen("::1", 0)
    except InputError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert url("::1", sockets) == f"http://[::1]:{sockets[0].getsockname()[1]}"
    assert not is_open(sockets)
    sockets[0].close()


def test_an_address_that_others_reach_is_known_as_such():
    sockets = listen("0.0.0.0", 0)
    assert is_open(sockets) and not is_open(listen("localhost", 0))
    for one in sockets:
        one.close()


def test_the_limit_of_connections_fits_into_the_open_files(monkeypatch):
    seen = {}
    monkeypatch.setattr(listening, "_allow_files", lambda: 100)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.update(patience=self.config.http.patience))
    listening.run(app, [], Patience(connections=1000))
    assert seen["patience"].connections == 50
