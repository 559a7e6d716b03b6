"""What asking the Hugging Face hub fails with."""

from __future__ import annotations


def hub_errors() -> tuple[type[BaseException], ...]:
    """For `except`: no network, no such or no possible name, no token; httpx and what the hub's client uses in its place."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    of_client = HfHubHTTPError.__bases__
    of_hub = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled)
    return (OSError, *of_hub, *of_client, httpx.HTTPError)
