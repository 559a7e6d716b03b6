"""Whatever the hub's client fails with for want of a network, a name or a token is told; mistakes of a program are not."""

from __future__ import annotations

import importlib

import httpx
import pytest
from huggingface_hub import errors

from zreward.common.hub_errors import hub_errors

of_client = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""The HTTP library of the hub's client: requests, httpx or what follows it."""


@pytest.mark.parametrize("library", [httpx, of_client], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["HTTPError", "ConnectError", "ReadTimeout", "ProxyError"])
def test_errors_of_http_libraries_are_told(library, name):
    kind = getattr(library, name, None)
    if kind is None:
        pytest.skip(f"{library.__name__} has no {name}")
    assert issubclass(kind, hub_errors())


@pytest.mark.parametrize(
    "kind",
    [
        errors.HfHubHTTPError,
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.GatedRepoError,
        errors.HFValidationError,
        errors.LocalTokenNotFoundError,
        errors.OfflineModeIsEnabled,
        ConnectionError,
        TimeoutError,
    ],
)
def test_no_network_no_name_and_no_token_are_told(kind):
    assert issubclass(kind, hub_errors())


@pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError, AttributeError, AssertionError, KeyboardInterrupt])
def test_mistakes_of_a_program_are_not_taken_for_the_hubs(kind):
    assert not issubclass(kind, hub_errors())
