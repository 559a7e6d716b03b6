"""Somebody in front of the studio: signs in by an invitation, works by keyboard, and notices what is wrong with a page."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).parents[3] / "docs" / "images" / "studio"
WINDOWS = {1440: 900, 390: 780}  # width -> height
TALLEST = 1300  # pixels of a picture
READY = "() => !document.querySelector('.answer button:disabled, #adjust button:disabled, .verdict button:disabled')"
SAVED = "() => !Number(document.body.dataset.unsaved ?? 0)"
LOOKED: set[str] = set()
PASSWORD = "a password to remember"


class Person:
    """A browser session of its own. Every page that is looked at may not have a serious violation or an error in its console."""

    def __init__(self, browser: Any, invitation: str) -> None:
        self.page = browser.new_context(viewport={"width": 1440, "height": WINDOWS[1440]}).new_page()
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
        """A key that leads to another page, or to the next picture; what it answers is saved when this returns."""
        self.page.wait_for_function(READY)
        with self.page.expect_navigation():
            self.page.keyboard.press(key)
        self.page.wait_for_function(SAVED)

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
        """Check the page, at both widths, once for each name; with ZREWARD_SCREENSHOTS=1 also put pictures of it into docs/."""
        if name not in LOOKED:
            for width, height in WINDOWS.items():
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.wait_for_load_state("networkidle")
                wide = self.page.evaluate("() => document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} pixels wide in a window of {width}"
                serious = serious_violations(self.page)
                assert not serious, f"{name} at {width}: {serious}"
                if os.environ.get("ZREWARD_SCREENSHOTS"):
                    self._photograph(PICTURES / f"{name}-{width}.png")
            LOOKED.add(name)
        self.page.set_viewport_size({"width": 1440, "height": WINDOWS[1440]})
        assert not self.errors, self.errors

    def _photograph(self, path: Path) -> None:
        """The page down to TALLEST, in few colours: docs/ stays small."""
        picture = Image.open(io.BytesIO(self.page.screenshot(full_page=True))).convert("RGB")
        picture = picture.crop((0, 0, picture.width, min(picture.height, TALLEST)))
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)


def serious_violations(page: Any) -> list[str]:
    """What axe calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
    ]
