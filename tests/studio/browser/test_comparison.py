"""A blind comparison in a real browser: made on the command line, judged by keyboard, closed, read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.studio.browser.person import PASSWORD, Person
from tests.studio.running import Server
from zreward.data.images import pixel_hash
from zreward.studio.domain import accounts
from zreward.world import try_out

pytestmark = pytest.mark.browser

SYSTEMS = ("frozen-base", "tuned-model")
PROMPTS = 12
SAME = 0.5  # difference of the scenes' truths, summed over dimensions, that nobody sees


@pytest.fixture
def worth(tmp_path) -> dict[str, float]:
    """Two folders of the world's scenes for the same prompts; what each picture deserves, by its pixels."""
    found = {}
    for number, picture in enumerate(try_out.pictures(PROMPTS, len(SYSTEMS), seed=5)):
        folder = tmp_path / SYSTEMS[number % 2]
        folder.mkdir(exist_ok=True)
        name = f"{number // 2}.png"
        (folder / name).write_bytes(picture.image)
        row = {
            "image": name,
            "prompt": picture.prompt,
            "seed": 0,
            "tags": ["two objects"] if " of " in picture.prompt else [],
        }
        with open(folder / "pictures.jsonl", "a") as manifest:
            manifest.write(json.dumps(row) + "\n")
        found[pixel_hash(picture.image)] = sum(picture.truth.values())
    return found


@pytest.fixture
def server(project):
    made = Server(project)
    yield made
    made.kill()


def side(person: Person, worth: dict[str, float]) -> str:
    """What somebody presses who sees what the pictures on the page deserve."""
    pictures = [person.page.get_by_alt_text(f"{name} picture").get_attribute("src") for name in ("Left", "Right")]
    left, right = (worth[pixel_hash(person.page.request.get(person.base + str(src)).body())] for src in pictures)
    return "2" if abs(left - right) <= SAME else "1" if left > right else "ArrowRight"


def test_a_comparison_is_made_judged_closed_and_read(project, session, server, chromium, worth, tmp_path):
    folders = [tmp_path / name for name in SYSTEMS]
    command = [sys.executable, "-m", "zreward.cli", "compare", *map(str, folders), "--study", str(project.folder)]
    done = subprocess.run([*command, "--raters", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    roles = {"ann": "annotator", "ben": "annotator", "quinn": "quality"}
    tokens = [accounts.invite(session, name, role)[1] for name, role in roles.items()]
    ann, ben, quinn = (Person(chromium, f"{server.url}/invitation/{token}") for token in tokens)

    for person in (ann, ben):
        person.go("/studies")
        person.look("studies")
        person.page.get_by_role("link", name="Judge Study 1").click()
        person.look("judge")
        judged = 0
        while person.page.locator("form.verdict").count():
            assert not any(name in person.page.content() for name in SYSTEMS)
            person.press(side(person, worth))
            judged += 1
        assert judged == PROMPTS
    ann.look("judge-nothing-left")
    before = ann.page.inner_text("main")
    ann.press("u")  # the last one again, and the same answer
    ann.press(side(ann, worth))
    assert ann.page.inner_text("main") == before

    quinn.go("/studies")
    assert not any(name in quinn.page.content() for name in SYSTEMS)
    assert f"{2 * PROMPTS} of {2 * PROMPTS} verdicts" in quinn.page.content()
    quinn.page.get_by_text("Close it").click()
    quinn.look("studies-quality")
    quinn.click("Close Study 1 and see the result")
    assert all(name in quinn.page.content() for name in SYSTEMS)
    quinn.look("study-result")

    result = json.loads(quinn.page.request.get(f"{server.url}/studies/1/result.json").text())
    gains = [
        worth[pixel_hash(str(folders[1] / f"{n}.png"))] - worth[pixel_hash(str(folders[0] / f"{n}.png"))]
        for n in range(PROMPTS)
    ]
    good, bad = sum(gain > SAME for gain in gains), sum(gain < -SAME for gain in gains)
    pairs = result["aspects"]["overall"]["pairs"]
    assert (result["before"], result["after"]) == SYSTEMS
    assert (pairs["good"], pairs["bad"], pairs["gsb"]) == (good, bad, pytest.approx((good - bad) / PROMPTS))
    assert result["aspects"]["overall"]["agreement"] == 1


def test_signing_in_and_going_astray(session, server, chromium):
    _, token = accounts.invite(session, "ann", "annotator")
    ann = Person(chromium, f"{server.url}/invitation/{token}")
    ann.click("Sign out")
    ann.go("/annotate")
    ann.look("sign-in")
    ann.page.fill("#name", "ann")
    ann.page.fill("#password", PASSWORD)
    ann.press("Enter")
    assert ann.page.url.endswith("/annotate")
    ann.go("/quality")
    ann.look("refused")
