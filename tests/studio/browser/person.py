"""Somebody in front of the studio: signs in by an invitation, works by keyboard, and notices what is wrong with a page."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).parents[3] / "docs" / "images" / "studio"
WIDTHS = (1440, 390)
PASSWORD = "a password to remember"


class Person:
    """A browser session of its own. Every page that is looked at may not have a serious violation or an error in its console."""

    def __init__(self, browser: Any, invitation: str) -> None:
        self.page = browser.new_context(viewport={"width": WIDTHS[0], "height": 900}).new_page()
        self.base = invitation.split("/invitation/")[0]
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(invitation)
        self.look("invitation")
        self.page.fill("#password", PASSWORD)
        self.page.fill("#again", PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "invitation" not in url)

    def go(self, path: str) -> None:
        self.page.goto(self.base + path)

    def press(self, key: str) -> None:
        """A key that leads to another page."""
        with self.page.expect_navigation():
            self.page.keyboard.press(key)

    def click(self, button: str) -> None:
        """A button, by its name, that leads to another page."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=button).click()

    def rate_all(self, dimension: str, key: Callable[[int], str]) -> int:
        """Rate by keyboard until nothing is left: `key` of a picture's number; how many it were."""
        self.go(f"/annotate?dimension={dimension}")
        count = 0
        while self.page.locator("#rating").count():
            self.press(key(int(self.page.locator("#rating input[name=candidate]").input_value())))
            count += 1
        return count

    def look(self, name: str) -> None:
        """Check the page, at both widths; with ZREWARD_SCREENSHOTS=1 also put pictures of it into docs/."""
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 900 if width > 600 else 780})
            self.page.wait_for_load_state("networkidle")
            wide = self.page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} pixels wide in a window of {width}"
            serious = serious_violations(self.page)
            assert not serious, f"{name} at {width}: {serious}"
            if os.environ.get("ZREWARD_SCREENSHOTS"):
                PICTURES.mkdir(parents=True, exist_ok=True)
                self.page.screenshot(path=PICTURES / f"{name}-{width}.png")
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        assert not self.errors, self.errors


def serious_violations(page: Any) -> list[str]:
    """What axe calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
    ]
