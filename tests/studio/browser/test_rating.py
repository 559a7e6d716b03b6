"""Steps 1 and 2 under the fingers: keys, undo, zoom, examples beside the rubric, dragging."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.studio.browser.person import READY, SAVED, Person
from tests.studio.running import Server
from zreward.studio.domain import accounts
from zreward.studio.storage.schema import Example, Label, SignedIn, User

pytestmark = pytest.mark.browser

DIMENSION = "alignment"
PAGE = f"/annotate?dimension={DIMENSION}"


@pytest.fixture
def ann(project, session, chromium):
    """Her browser, on a server of its own. Pictures 9 to 12 are examples."""
    session.add_all(
        Example(candidate_id=n, dimension=DIMENSION, score=3.0, note="typical", rubric_version="1")
        for n in range(9, 13)
    )
    _, token = accounts.invite(session, "ann", "annotator")
    session.commit()
    server = Server(project)
    yield Person(chromium, f"{server.url}/invitation/{token}")
    server.kill()


def scores(session) -> list[float | None]:
    session.expire_all()
    return [label.score for label in session.scalars(select(Label).order_by(Label.id))]


def shown(ann: Person) -> str:
    return ann.page.locator("#rating input[name=candidate]").input_value()


def test_keys_answer_move_and_go_back(ann, session):
    ann.go(PAGE)
    first = shown(ann)
    ann.press("1")
    ann.press("9")
    ann.press("0")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        ann.page.keyboard.press(key)
    assert ann.page.locator("button:focus").get_attribute("value") == "3"
    ann.press("Enter")
    assert scores(session) == [1.0, 5.0, None, 3.0]
    for _ in range(4):
        ann.press("u")
    assert shown(ann) == first and ann.page.locator("[aria-pressed=true]").get_attribute("value") == "1"
    ann.press("2")
    assert scores(session) == [1.5, 5.0, None, 3.0]
    assert "4 rated, 4 left" in ann.page.locator(".progress").inner_text()
    ann.page.reload()
    assert "4 rated, 4 left" in ann.page.locator(".progress").inner_text()
    assert not ann.errors


def test_a_key_that_is_held_down_answers_one_picture(ann, session):
    ann.go(PAGE)
    ann.page.wait_for_function(READY)
    ann.page.keyboard.down("9")
    for _ in range(5):
        ann.page.keyboard.down("9")  # what a keyboard sends while the key stays down
    ann.page.keyboard.up("9")
    ann.press("1")
    assert scores(session) == [5.0, 1.0]


def shown_pictures(ann: Person) -> list[str]:
    """What the page has shown so far, in order: its own record of it."""
    return ann.page.evaluate("() => window.seen")


RECORD = """() => {
  window.seen = [];
  const note = () => {
    const form = document.getElementById("rating");
    if (form && !form.querySelector(".scores button").disabled) {
      const number = form.elements.candidate.value;
      if (window.seen.at(-1) !== number) window.seen.push(number);
    }
  };
  note();
  new MutationObserver(note).observe(document.querySelector("main"), {subtree: true, childList: true, attributes: true});
}"""


def test_a_fast_rater_loses_nothing_and_answers_what_was_on_the_screen(ann, session):
    ann.go(PAGE)
    ann.page.wait_for_function(READY)
    ann.page.evaluate(RECORD)
    for key in "12345":
        ann.page.keyboard.press(key)
        ann.page.wait_for_timeout(300)
    ann.page.wait_for_function(SAVED)
    labels = session.scalars(select(Label).order_by(Label.id)).all()
    assert [label.score for label in labels] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert [str(label.candidate_id) for label in labels] == shown_pictures(ann)[:5]
    assert all(label.seconds is not None and label.seconds < 30 for label in labels) and not ann.errors


def test_no_key_answers_a_picture_before_it_is_loaded(ann, session):
    held, open_again = [], []
    ann.page.route("**/pictures/*width=640", lambda route: route.continue_() if open_again else held.append(route))
    ann.page.goto(ann.base + PAGE, wait_until="domcontentloaded")
    ann.page.wait_for_function("() => document.querySelector('.scores button').disabled")
    ann.page.keyboard.press("5")
    ann.page.locator(".scores button").first.click(force=True)
    ann.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert held and scores(session) == []
    open_again.append(True)
    for route in held:
        route.continue_()
    ann.page.wait_for_function(READY)
    ann.page.unroute("**/pictures/*width=640")
    ann.press("5")
    assert scores(session) == [3.0]


def test_a_picture_that_cannot_be_loaded_can_only_be_passed_over(ann, project, session):
    for picture in (project.folder / "images").iterdir():
        picture.write_bytes(b"no picture")
    ann.page.context.new_cdp_session(ann.page).send("Network.clearBrowserCache")  # has those of her first page
    ann.go(PAGE)
    ann.page.get_by_text("The picture cannot be loaded").wait_for(timeout=25000)
    ann.page.keyboard.press("5")
    ann.page.keyboard.press("0")
    ann.page.wait_for_function(SAVED)
    assert scores(session) == [None]


def test_answers_wait_for_a_studio_that_is_away_and_are_saved_once(ann, session):
    ann.go(PAGE)
    ann.page.wait_for_function(READY)
    ann.page.wait_for_load_state("networkidle")
    lost = []
    ann.page.route("**/labels", lambda route: (lost.append(route), route.abort()))
    ann.page.keyboard.press("1")
    ann.page.get_by_text("1 not saved: the studio does not answer").wait_for(timeout=25000)
    ann.page.keyboard.press("2")
    assert scores(session) == [] and lost
    ann.page.unroute("**/labels")
    ann.page.wait_for_function(SAVED)
    assert scores(session) == [1.0, 1.5]


def test_signed_out_elsewhere_says_what_is_not_saved(ann, session):
    ann.go(PAGE)
    ann.page.wait_for_function(READY)
    session.query(SignedIn).delete()
    session.commit()
    ann.page.keyboard.press("1")
    ann.page.get_by_text("1 not saved").wait_for(timeout=25000)
    ann.page.get_by_text("Load the page again").wait_for(timeout=25000)
    assert scores(session) == []


def test_without_scripts_the_buttons_do_the_same(ann, session, chromium):
    state = ann.page.context.storage_state()
    page = chromium.new_context(java_script_enabled=False, storage_state=state).new_page()
    page.goto(ann.base + PAGE)
    page.locator(".scores button").nth(3).click()
    page.locator(".scores button").nth(4).click()
    assert scores(session) == [2.5, 3.0]


def test_keys_inside_a_text_field_do_not_answer(ann, session):
    ann.go(PAGE)
    ann.press("5")
    ann.page.get_by_text("Corner case").click()
    ann.page.locator("#note").fill("")
    ann.page.locator("#note").press_sequentially("9 u z")
    assert ann.page.locator("#note").input_value() == "9 u z" and scores(session) == [3.0]


def test_a_picture_is_looked_at_closely_without_leaving_the_page(ann, session):
    ann.go(PAGE)
    zoomed = ann.page.get_by_role("dialog")
    ann.page.keyboard.press("z")
    zoomed.get_by_alt_text("The picture to rate").wait_for(state="visible", timeout=25000)
    ann.page.keyboard.press("4")
    assert scores(session) == []
    ann.page.keyboard.press("Escape")
    assert zoomed.count() == 0
    ann.page.locator(".examples a").first.click()
    assert "Example of 3" in zoomed.locator("img").get_attribute("alt")
    ann.page.keyboard.press("z")
    ann.press("4")
    assert scores(session) == [2.5] and ann.page.url.endswith(PAGE)


def test_examples_stand_beside_the_rubric_until_they_are_folded_away(ann):
    ann.go(PAGE)
    assert ann.page.get_by_alt_text("Example of 3").count() == 4
    assert ann.page.locator(".examples img").first.is_visible()
    ann.page.get_by_text("Examples", exact=True).click()
    ann.press("3")
    assert not ann.page.locator(".examples img").first.is_visible()


@pytest.fixture
def three(ann, session) -> Person:
    """She gave the top of the scale to three candidates of one prompt, and compares them."""
    user = session.scalars(select(User).where(User.name == "ann")).one()
    session.add_all(
        Label(user_id=user.id, candidate_id=n, dimension=DIMENSION, score=score, rubric_version="1")
        for n, score in ((1, 5.0), (2, 5.0), (3, 5.0))
    )
    session.commit()
    ann.go(f"/adjust?dimension={DIMENSION}")
    return ann


def drag(ann: Person, number: int, by: int) -> None:
    box = ann.page.locator(".shiftable img").nth(number).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    ann.page.mouse.move(x, y)
    ann.page.mouse.down()
    ann.page.mouse.move(x, y + by, steps=5)
    ann.page.mouse.up()


def test_shifts_by_key_and_by_drag_stay_on_the_scale(three, session):
    outputs = three.page.locator(".shiftable output")
    three.page.keyboard.press("ArrowUp")  # 5 is the top
    assert outputs.all_inner_texts() == ["5", "5", "5"]
    three.page.keyboard.press("ArrowDown")
    three.page.keyboard.press("ArrowDown")  # half a point, no more
    drag(three, 1, -90)
    drag(three, 2, 90)
    assert outputs.all_inner_texts() == ["4.5", "5", "4.5"]
    drag(three, 2, -90)
    assert outputs.all_inner_texts() == ["4.5", "5", "5"]
    three.page.keyboard.press("ArrowLeft")
    three.page.keyboard.press("z")
    three.page.get_by_role("dialog").get_by_alt_text("Candidate 2").wait_for(state="visible", timeout=25000)
    three.page.keyboard.press("Escape")
    three.press("Enter")
    session.expire_all()
    assert [label.final for label in session.scalars(select(Label).order_by(Label.id))] == [4.5, 5.0, 5.0]
    assert three.page.get_by_text("Nothing to compare").is_visible() and not three.errors
