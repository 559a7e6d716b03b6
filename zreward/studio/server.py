"""`zreward studio PROJECT`: the pages on an address, until interrupted."""

from __future__ import annotations

import uvicorn

from zreward.studio.app import create_app
from zreward.studio.project import Project


def serve(project: Project, host: str, port: int, secure_cookies: bool = False, proxies: str | None = None) -> None:
    """Blocks. `proxies`: addresses whose X-Forwarded-* headers are believed, with commas between."""
    app = create_app(project, secure_cookies)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=30,
        proxy_headers=proxies is not None, forwarded_allow_ips=proxies,
    )  # fmt: skip
