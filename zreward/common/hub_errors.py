"""What asking the Hugging Face hub fails with."""

from __future__ import annotations


def hub_errors() -> tuple[type[BaseException], ...]:
    """For `except`: no network, no such name, no token; httpx and what the hub's client uses in its place."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    of_client = HfHubHTTPError.__bases__
    return (OSError, HfHubHTTPError, *of_client, LocalTokenNotFoundError, OfflineModeIsEnabled, httpx.HTTPError)
