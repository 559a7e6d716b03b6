"""What clients of HTTP servers have in common: addresses, proxies, tokens, and what is worth another attempt."""

from __future__ import annotations

import ipaddress
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from tenacity import RetryCallState, wait_exponential

from zreward.common.errors import InputError, shown

BROKEN = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)  # a connection that broke off
LONGEST_WAIT = 600.0  # seconds: no server makes a client sleep for longer
CONNECT = 10.0  # seconds
MOST_SECONDS = 1e6  # of a time limit: a system's clock takes no more
_LABEL = 63  # letters between the dots of a host's name


def parse_address(url: str) -> httpx.URL:
    """InputError unless it is http:// or https:// and a host."""
    try:
        address = httpx.URL(url if "://" in url else f"http://{url}")
        host = address.host
    except (httpx.InvalidURL, UnicodeError, TypeError) as error:
        raise InputError(f"{shown(url)}: {error}; expected an address such as http://127.0.0.1:8000") from None
    is_name = host and all(len(label) <= _LABEL for label in host.split("."))
    if address.scheme not in ("http", "https") or not is_name or any(map(str.isspace, url)):
        raise InputError(f"{url!r} is no address of a server; expected one such as http://127.0.0.1:8000")
    return address


def is_here(host: str) -> bool:
    """Whether it is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_for(address: httpx.URL) -> str | None:
    """The proxy that the environment names for it, without its password."""
    proxies = urllib.request.getproxies()
    found = proxies.get(address.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(address.host):
        return None
    return found.rpartition("@")[2]


@contextmanager
def environment_errors() -> Iterator[None]:
    """InputError for what a client refuses in here of the environment: its proxies and certificates."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise InputError(
            f"HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR of the environment: {error}; correct or unset it"
        ) from None


def check_token(token: str) -> str:
    """A bearer token as a header can carry it. InputError otherwise; the token is not repeated."""
    if not all("!" <= letter <= "~" for letter in token):
        raise InputError("the token holds spaces, line ends or letters beyond ASCII, which no HTTP header carries")
    return token


def stated_wait(answer: httpx.Response) -> float | None:
    """The seconds after which a server wants to be asked again, where it says so."""
    stated = answer.headers.get("retry-after", "")
    return min(float(stated), LONGEST_WAIT) if stated.isdecimal() else None


def failure(state: RetryCallState) -> BaseException | None:
    """What the last attempt raised."""
    return state.outcome.exception() if state.outcome else None


_growing = wait_exponential(0.5)


def pause(state: RetryCallState) -> float:
    """What the server asks for (`seconds` of the exception), else 0.5, 1, 2, ... seconds, a little shuffled."""
    stated = getattr(failure(state), "seconds", None)
    return _growing(state) * random.uniform(0.8, 1.2) if stated is None else stated
