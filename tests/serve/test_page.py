"""The page in a browser: moving pictures with boxes, toggles, cameras that come and go."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser, sync_playwright

from tests.serve.conftest import PASSWORD, USER, running
from vision_heads.geometry.rotations import from_euler
from vision_heads.paths import assets
from vision_heads.runtime.engines import open_engine
from vision_heads.serve import app
from vision_heads.serve.app import Plan
from vision_heads.serve.limits import Limits

CHROMIUM = os.environ.get("VH_CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
TOKEN = "correct-horse-battery"
SECONDS = 20_000
"""Milliseconds in which something must happen; the machine may be busy."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)

COUNT_COLOR = """(canvas, color) => {
  const [w, h] = [canvas.width, canvas.height];
  const data = canvas.getContext("2d").getImageData(0, 0, w, h).data;
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 12) count++;
  return count;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Visit:
    """A page, and everything that went wrong on it."""

    def __init__(self, browser: Browser, url: str, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        self.context.set_default_timeout(SECONDS)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def _console(self, message) -> None:
        # The browser itself reports each refused request, and connections that end with their
        # service; what should have come by them is waited for where it matters.
        browsers_own = message.text.startswith(("Failed to load resource", "WebSocket connection"))
        if message.type == "error" and not browsers_own:
            self.wrong.append(message.text)

    def add(self, url: str, name: str) -> None:
        self.page.click("#add")
        self.page.fill("#url", url)
        self.page.fill("#name", name)
        self.page.keyboard.press("Enter")

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []


@pytest.fixture
def visit(browser) -> Iterator:
    visits: list[Visit] = []

    def go(url: str, **options) -> Visit:
        visits.append(Visit(browser, url, **options))
        return visits[-1]

    yield go
    for one in visits:
        one.close()


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    """Return frames of the demo clip: cars and people from above."""
    video = cv2.VideoCapture(str(assets("datasets") / "demo" / "clip.mp4"))
    frames = []
    while (got := video.read())[0]:
        frames.append(got[1])
    assert len(frames) > 20
    return frames[::3]


@pytest.fixture(scope="module")
def aerial() -> Plan:
    return Plan(open_engine("aerial-n", threads=2), "aerial-n")


def frames_of(visit: Visit, name: str) -> int:
    return int(visit.page.locator(f'[data-id="{name}"]').get_attribute("data-frames") or 0)


def wait_for_frames(visit: Visit, name: str, more: int = 2) -> None:
    wanted = frames_of(visit, name) + more
    visit.page.wait_for_function(
        f"() => document.querySelector('[data-id=\"{name}\"]').dataset.frames >= {wanted}"
    )


def test_cameras_are_added_watched_and_removed(visit, aerial, camera_of, clip):
    camera = camera_of(clip)
    with running(aerial) as service:
        here = visit(service.url)
        page = here.page
        assert page.locator("#empty").is_visible()
        page.wait_for_selector("#link.on")

        here.add(camera.url, "Gate")
        page.wait_for_selector('[data-id="gate"] .badge.live')
        wait_for_frames(here, "gate")
        card = page.locator('[data-id="gate"]')
        canvas = card.locator("canvas.picture")
        first = canvas.evaluate("canvas => canvas.toDataURL()")
        wait_for_frames(here, "gate", 3)
        assert canvas.evaluate("canvas => canvas.toDataURL()") != first, "the picture stands still"

        # Boxes: in the colour of their class, exactly as many as the service has found.
        car = page.evaluate(
            "async () => (await (await fetch('/v1/model')).json()).heads[0].colors[3]"
        )
        assert int(card.get_attribute("data-drawn")) > 5
        assert canvas.evaluate(COUNT_COLOR, car) > 100
        assert "car" in canvas.get_attribute("aria-label")
        assert float(card.locator(".fps").inner_text()) > 0
        assert "s" in card.locator(".delay").inner_text()
        page.wait_for_function("document.querySelector('.legend').textContent.includes('car')")

        # Toggles.
        for button in ('[data-head="aerial"]', '[data-show="boxes"]'):
            page.click(button)
            assert page.locator(button).get_attribute("aria-pressed") == "false"
            assert canvas.evaluate(COUNT_COLOR, car) < 20, button
            page.click(button)
        page.wait_for_function("document.querySelector('[data-id=gate] .objects').textContent > 5")
        page.click('[data-head="aerial"]')
        assert card.locator(".objects").inner_text() == "0"
        page.click('[data-head="aerial"]')

        # A bad address is reported where it was typed, and may be mended.
        here.add("file:///etc/passwd", "Bad")
        page.wait_for_selector("#adding-error:visible")
        assert "file:// is not allowed" in page.inner_text("#adding-error")
        assert page.locator("#url").get_attribute("aria-invalid") == "true"
        page.fill("#url", f"http://{USER}:{PASSWORD}@127.0.0.1:9/nothing")
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-id="bad"] .notice:has-text("refused")')
        assert card.locator(".badge").inner_text() == "Live", "the dead one troubles the other"

        assert PASSWORD not in page.content() and USER not in page.content()
        assert all(url.startswith((service.url, "blob:", "data:")) for url in here.asked)

        page.once("dialog", lambda dialog: dialog.accept())
        page.click('[data-id="bad"] .remove')
        page.wait_for_selector('[data-id="bad"]', state="detached")
        page.once("dialog", lambda dialog: dialog.dismiss())
        card.locator(".remove").click()
        page.once("dialog", lambda dialog: dialog.accept())
        card.locator(".remove").click()
        card.wait_for(state="detached")
        assert page.locator("#empty").is_visible()
        page.wait_for_selector('#events li:has-text("Gate: ended")')


def test_a_picture_is_tried(visit, aerial, tmp_path):
    picture = sorted((assets("datasets") / "demo" / "images").iterdir())[0]
    with running(aerial) as service:
        here = visit(service.url)
        page = here.page
        page.set_input_files("#file", picture)
        page.wait_for_selector('#try-words:has-text(" car")')
        assert page.locator("#try-view").evaluate(COUNT_COLOR, "#00d6a0") > 100
        (tmp_path / "no.jpg").write_text("this is text")
        page.set_input_files("#file", tmp_path / "no.jpg")
        page.wait_for_selector("#try-words.error")
        assert "not a JPEG" in page.inner_text("#try-words")
        assert page.locator("#try-view").is_hidden()


def test_the_token_is_asked_for_once(visit, engine):
    with running(replace(Plan(engine, "tiny"), token=TOKEN)) as service:
        here = visit(service.url)
        page = here.page
        assert page.url == f"{service.url}/login"
        page.fill("#token", "something else")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#link.on")
        assert TOKEN not in page.content() and TOKEN not in page.evaluate("document.cookie")
        page.click("#logout button")
        page.wait_for_url("**/login")
        page.goto(service.url)
        assert page.url == f"{service.url}/login"


def test_it_is_used_by_keyboard_and_on_a_phone(visit, engine, moving_square):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with running(replace(Plan(engine, "tiny"), limits=Limits(streams=1))) as service:
        here = visit(service.url, **phone, device_scale_factor=2)
        page = here.page
        page.wait_for_selector("#link.on")
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "add":
                break
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "url"
        page.keyboard.type(moving_square.url)
        page.keyboard.press("Tab")
        page.keyboard.type("Yard")
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-id="yard"] .badge.live')
        wait_for_frames(here, "yard")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "the page is wider than the phone"
        small = page.evaluate(
            "[...document.querySelectorAll('button')].filter((b) => b.offsetParent)"
            ".map((b) => b.getBoundingClientRect()).filter((r) => r.height < 40).length"
        )
        assert small == 0, "buttons are too small for fingers"
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, canvas')]"
            ".filter((n) => !(n.innerText || n.ariaLabel || n.labels?.length))"
            ".map((n) => n.outerHTML)"
        )
        assert unnamed == []
        page.click("#add")
        page.keyboard.press("Escape")
        assert not page.locator("#adding").is_visible()
        here.add(moving_square.url, "Second")
        page.wait_for_selector('#adding-error:has-text("1 streams already")')


def test_the_page_comes_back_when_the_service_does(visit, engine):
    with running(Plan(engine, "tiny")) as service:
        here = visit(service.url)
        page = here.page
        page.wait_for_selector("#link.on")
        # The connection breaks, as it does when the service is restarted.
        service.app.state.streams.closed = True
        service.app.state.streams._ring()
        service.app.state.streams._loop.call_soon_threadsafe(service.app.state.streams._ring)
        page.wait_for_selector("#link:not(.on)")
        service.app.state.streams.closed = False
        page.wait_for_selector("#link.on")
        here.wrong = [text for text in here.wrong if "WebSocket" not in text]


def test_heads_are_drawn_as_they_are_turned(visit, engine):
    """The page makes rotations of angles by itself; by the same rule as everything else."""
    with running(Plan(engine, "tiny")) as service:
        here = visit(service.url)
        angles = np.array([[0, 0, 0], [30, 0, 0], [0, 40, 0], [0, 0, 20], [-25, 110, 33.0]])
        turned = here.page.evaluate(
            "async (all) => { const { columns } = await import('/page/draw.js');"
            " return all.map((a) => { const c = columns(a); return [c.side, c.chin, c.nose]; }); }",
            angles.tolist(),
        )
        wanted = from_euler(angles)
        assert np.allclose(np.transpose(turned, (0, 2, 1)), wanted, atol=1e-6)


def test_the_page_names_nothing_from_elsewhere():
    folder = Path(app.__file__).parent / "page"
    files = sorted(folder.iterdir())
    assert {"index.html", "login.html", "style.css", "main.js"} <= {file.name for file in files}
    for file in files:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), file.name
