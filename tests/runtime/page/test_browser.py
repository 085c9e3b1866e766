"""The whole way in a real browser, on a video of photographs: from an empty page to a recognized thing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toy
from page_site import Opened, Showing, Site
from sp_edge.photographs import photograph
from sp_edge.view import Region
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import NamedRegion
from threads import until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
av = pytest.importorskip("av", reason="the extra camera is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt install chromium"),
    # Playwright's own loop is closed with its process.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
SCENES, LENGTH, RATE = ("coffee", "cat", "rocket"), 30, 15
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, two seconds each, over which the camera wanders."""
    path = tmp_path_factory.mktemp("video") / "things.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 256, 192, "yuv420p", 4_000_000
        for scene in SCENES:
            image = Image.fromarray(photograph(scene).read())
            side = 0.75 * min(image.size)
            for angle in np.linspace(0, 2 * np.pi, LENGTH, endpoint=False):
                left, top = (
                    (whole - side) * (1 + turn) / 2
                    for whole, turn in zip(image.size, (np.cos(angle), np.sin(angle)), strict=True)
                )
                seen = image.resize((256, 192), box=(left, top, left + side, top + side))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(seen), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def named(naming_bundle: Path, tmp_path: Path) -> Iterator[Recognizer]:
    with Recognizer.load(naming_bundle, bank=tmp_path / "classes.spbank", device="cpu", follow=True) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Visit:
    """A person at the page of a site."""

    def __init__(self, browser: Any, site: Site) -> None:
        self.site = site
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.said)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(site.address)

    def said(self, message: Any) -> None:
        """What the browser complains of, but for a picture that went between its name and its turn."""
        if message.type == "error" and "404" not in message.text:
            self.errors.append(message.text)

    def wait_for(self, scene: str) -> None:
        """Until the video is early in a scene."""
        first = SCENES.index(scene) * LENGTH
        until(lambda: first + 2 <= self.frame() % (len(SCENES) * LENGTH) <= first + LENGTH // 3)

    def frame(self) -> int:
        found = self.site.get("/api/sources/0/result")
        return int(found.json["frame_id"]) if found.status == 200 else -1

    def hold(self, name: str, seconds: float) -> str:
        """Types a name and holds the button; what the page says then."""
        self.page.fill("#name", name)
        self.page.hover("#hold")
        self.page.mouse.down()
        self.page.wait_for_timeout(1000 * seconds)
        self.page.mouse.up()
        self.page.wait_for_selector("#told p")
        return str(self.page.inner_text("#told p"))

    def until_label(self, text: str) -> None:
        self.page.wait_for_function("text => document.getElementById('label').textContent === text", arg=text)


@pytest.fixture
def visit(opened: Opened, named: Recognizer, video: Path, browser: Any) -> Iterator[Visit]:
    with open_source(video, SourceOptions(loop=True)) as source:
        visit = Visit(browser, opened([source], taught=named))
        yield visit
        visit.page.close()
        assert visit.errors == []
        assert all(url.startswith((visit.site.address, "blob:")) for url in visit.asked), "no request leaves the page's host"


def test_teach_two_things_recognize_them_and_take_one_back(visit: Visit) -> None:
    page = visit.page
    visit.wait_for("coffee")
    assert "Learned “coffee cup” from" in visit.hold("coffee cup", 0.6)
    visit.until_label("coffee cup")
    visit.wait_for("cat")
    assert "Learned “cat” from" in visit.hold("cat", 0.6)
    visit.until_label("cat")
    visit.until_label("unknown")
    visit.until_label("coffee cup")
    # In one step: the page may draw the cards anew at any moment, and a card that is gone has no lines.
    assert page.eval_on_selector_all("#cards > li h3", "all => all.map((one) => one.textContent)") == ["coffee cup", "cat"]
    page.click("#told .undo")
    page.wait_for_function("() => document.querySelectorAll('#cards > li').length === 1")
    assert list(visit.site.classes()) == ["coffee cup"]


def test_undo_is_offered_only_for_the_last_change(visit: Visit) -> None:
    page = visit.page
    visit.wait_for("cat")
    visit.hold("cat", 0.3)
    page.click("#tab-classes")
    page.click("#list summary")
    page.click("text=Forget")
    page.wait_for_selector("#note >> text=“cat” is forgotten.")
    assert page.query_selector("#told .undo") is None, "it would take back the forgetting"
    page.focus("#note .undo")
    page.keyboard.press("Enter")
    page.wait_for_selector("#note >> text=Taken back.")
    assert list(visit.site.classes()) == ["cat"]
    assert page.evaluate("document.activeElement.id") == "note", "the keyboard stays where it was"


def test_files_that_are_no_pictures_are_told(visit: Visit, video: Path) -> None:
    page = visit.page
    page.wait_for_selector("#picture:not([hidden])")
    page.set_input_files("#files", video)
    assert page.inner_text("#told") == "Only pictures can be taught. The other files are left out."


def test_the_name_of_the_last_thing_gives_way_to_the_next(visit: Visit) -> None:
    page = visit.page
    page.fill("#name", "cat")
    page.focus("#tab-live")
    page.click("#name")
    page.keyboard.type("coffee")
    assert page.input_value("#name") == "coffee"


def test_what_is_like_a_counter_example_is_told_in_words(visit: Visit) -> None:
    page = visit.page
    visit.wait_for("cat")
    # As JPEG it is like the frames, and none of them.
    shown = Image.open(io.BytesIO(visit.site.get("/api/sources/0/frame.jpg").body))
    visit.site.recognizer.enroll("cat", shown)
    visit.wait_for("cat")
    visit.until_label("cat")
    page.click("#more summary")
    page.click("#negative")
    page.wait_for_function("() => document.getElementById('confidence').textContent === 'not “cat”'")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#picture:not([hidden])")
    visit.wait_for("cat")
    page.focus("#name")
    page.keyboard.type("cat")
    page.keyboard.press("Tab")
    page.keyboard.down("Space")
    page.wait_for_timeout(400)
    page.keyboard.up("Space")
    page.wait_for_selector("#told .undo")
    assert list(visit.site.classes()) == ["cat"]
    assert page.evaluate("document.activeElement.id") == "hold", "the keyboard stays where it was"
    page.focus("#tab-live")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#list > li")
    assert page.get_attribute("#tab-classes", "aria-selected") == "true"


def test_classes_are_corrected_on_the_page(visit: Visit) -> None:
    page = visit.page
    visit.wait_for("cat")
    visit.hold("cat", 0.5)
    page.click("#tab-classes")
    page.click("#list summary")
    page.fill("#list input[maxlength]", "my cat")
    page.click("text=Rename")
    page.wait_for_selector("#list h3:has-text('my cat')")
    page.click("#list .shots button >> nth=0")
    page.click("#move button")
    assert page.is_visible("#shot"), "it waits for a class"
    page.fill("#move-to", "animal")
    page.click("#move button")
    page.wait_for_selector("#list h3:has-text('animal')")
    assert visit.site.classes()["animal"] == 1


def test_chosen_pictures_wait_for_their_name(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    for number in range(2):
        image = Image.fromarray(photograph("flower").read())
        image.crop((20 * number, 20 * number, 200 + 20 * number, 200 + 20 * number)).save(tmp_path / f"{number}.png")
    page.set_input_files("#files", [tmp_path / "0.png", tmp_path / "1.png"])
    page.wait_for_selector("text=Teach 2 pictures")
    page.fill("#name", "flower")
    page.click("#hold")
    page.wait_for_selector("#told .undo")
    assert visit.site.classes()["flower"] >= 1
    assert page.is_hidden("#pending")


def test_a_lost_device_and_a_missing_name_are_told(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#picture:not([hidden])")
    page.click("#hold")
    assert page.inner_text("#told") == "First type what it is."
    visit.site.stop()
    page.wait_for_selector("#offline:not([hidden])")
    visit.errors.clear()  # what the browser says of the connection


def test_the_picture_comes_back_with_the_device(opened: Opened, named: Recognizer, browser: Any) -> None:
    site = opened(taught=named)
    visit = Visit(browser, site)
    page = visit.page
    page.wait_for_function("() => document.getElementById('picture').naturalWidth > 0")
    site.stop()
    page.wait_for_selector("#offline:not([hidden])")
    again = Showing()
    again.image = toy.picture("blue", side=32)
    opened([again], taught=named, port=int(site.host.rsplit(":")[-1]))
    page.wait_for_selector("#offline", state="hidden")
    page.wait_for_function("() => document.getElementById('picture').naturalWidth === 32")
    page.close()


def test_refused_events_are_asked_for_again(opened: Opened, named: Recognizer, browser: Any) -> None:
    site = opened(taught=named)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.route("**/api/events", lambda route: route.fulfill(status=429, body="{}"), times=1)
    page.goto(site.address)
    page.wait_for_selector("#seen-box:not([hidden])")
    page.close()


def test_the_link_with_the_token_signs_in(opened: Opened, named: Recognizer, browser: Any) -> None:
    site = opened([], taught=named, host="0.0.0.0")  # noqa: S104 - behind its token
    site.address = site.address.replace(site.host, f"127.0.0.1:{site.host.rsplit(':')[-1]}")
    visit = Visit(browser, site)
    visit.page.wait_for_selector("#empty:not([hidden])")
    assert "token" not in visit.page.url
    assert visit.page.evaluate("document.cookie") == ""
    visit.page.reload()
    visit.page.wait_for_selector("#empty:not([hidden])")
    visit.page.context.clear_cookies()
    visit.page.reload()
    visit.page.wait_for_selector("#offline:not([hidden])")
    visit.page.close()


def test_kept_frames_are_filed_and_the_threshold_shows_its_effect(visit: Visit) -> None:
    page = visit.page
    visit.wait_for("cat")
    visit.hold("cat", 0.5)
    until(lambda: len(visit.site.get("/api/recent").json) >= 2)
    page.click("#tab-recent")
    page.click("#kept button >> nth=0")
    page.fill("#file-name", "another thing")
    page.click("#file-it")
    page.wait_for_selector("#gain >> text=1 picture filed")
    assert visit.site.classes()["another thing"] == 1
    page.click("#gain button")
    page.wait_for_selector("#gain >> text=Taken back.")
    assert "another thing" not in visit.site.classes()
    page.click("#tab-settings")
    page.wait_for_selector("#effect >> text=would be recognized")
    page.fill("#value", "0")
    page.wait_for_function("() => document.getElementById('refused').children.length === 0")
    page.fill("#value", "1")
    page.wait_for_function("() => document.getElementById('accepted').children.length === 0")
    assert visit.site.get("/api/classes").json[0]["threshold"] is None
    page.click("#apply")
    page.wait_for_selector("#applied >> text=In use.")
    assert visit.site.get("/api/classes").json[0]["threshold"] == 1
    page.click("#automatic")
    page.wait_for_selector("#applied >> text=The device chooses.")
    assert visit.site.get("/api/classes").json[0]["threshold"] is None


def test_a_bank_is_saved_compared_and_merged(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.wait_for("cat")
    visit.hold("cat", 0.5)
    page.click("#tab-settings")
    with page.expect_download() as saving:
        page.click("text=Save the file")
    saving.value.save_as(tmp_path / "saved.spbank")
    page.wait_for_selector("#back >> text=Undo the last change (1 left)")
    page.click("#back")
    page.wait_for_selector("#bank-told >> text=Taken back.")
    assert visit.site.classes() == {}
    page.set_input_files("#bank-file", tmp_path / "saved.spbank")
    page.wait_for_selector("#difference-list >> text=is only in the file")
    page.click("#merge")
    page.wait_for_selector("#bank-told >> text=Added.")
    assert list(visit.site.classes()) == ["cat"]


def test_the_part_to_look_at_is_drawn_with_the_mouse(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#seen-box:not([hidden])")
    page.click("#more summary")
    page.click("#draw")
    drag(page, 0.5, 0.25, 0.25, 0.5)
    frame = page.locator("#view").bounding_box()
    until(lambda: visit.site.get("/api/sources").json[0]["region"] is not None)
    x, y, width, height = map(float, visit.site.get("/api/sources").json[0]["region"].split(","))
    assert (x, y) == pytest.approx((0.5, 0.25), abs=0.03)
    shown = min(frame["width"], frame["height"] * 256 / 192)  # the picture is fitted into its frame
    assert (width, height) == pytest.approx((0.25 * frame["width"] / shown, 0.5), abs=0.03)
    page.click("#whole")
    until(lambda: visit.site.get("/api/sources").json[0]["region"] is None)


def test_the_part_to_look_at_is_chosen_with_the_keys(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#seen-box:not([hidden])")
    page.focus("#more summary")
    page.keyboard.press("Enter")
    page.focus("#draw")
    page.keyboard.press("Enter")
    page.wait_for_selector("#drawn:not([hidden])")
    for key in ["ArrowLeft"] * 9 + ["ArrowDown"] + ["Shift+ArrowRight"] * 2 + ["Shift+ArrowDown"] * 9:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    until(lambda: visit.site.get("/api/sources").json[0]["region"] == "0,0.3,0.6,0.7")
    assert page.evaluate("document.activeElement.id") == "draw", "the keyboard stays where it was"
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.is_hidden("#drawn")
    assert page.evaluate("document.activeElement.id") == "draw"


def drag(page: Any, x: float, y: float, width: float, height: float) -> None:
    """Draws a box on the picture, in shares of its frame."""
    frame = page.locator("#view").bounding_box()
    page.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + (x + width) * frame["width"], frame["y"] + (y + height) * frame["height"], steps=4)
    page.mouse.up()


def test_further_parts_are_drawn_named_and_removed(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#seen-box:not([hidden])")
    name = page.text_content("#label")
    assert name == "unknown"
    page.click("#more summary")
    assert page.is_hidden("#sources")
    assert page.is_hidden("#edit-part")
    page.click("#add-part")
    drag(page, 0.5, 0.25, 0.25, 0.5)
    page.wait_for_selector("#part[open]")
    page.fill("#part-name", "left door")
    page.click("#part-save")
    page.wait_for_selector("#sources button[aria-pressed=true] >> text=left door")
    whole, part = visit.site.get("/api/sources").json
    assert (part["name"], part["of"], whole["region"]) == ("left door", whole["id"], None)
    assert [float(side) for side in part["region"].split(",")] == pytest.approx([0.5, 0.25, 0.25, 0.5], abs=0.04)
    page.wait_for_selector("#parts .chosen >> text=left door")
    assert page.is_hidden("#whole"), "it is a part"
    page.wait_for_function("() => document.getElementById('picture').naturalWidth > 0")
    visit.wait_for("cat")
    visit.hold("cat", 0.3)
    assert len(visit.site.classes()) == 1, "a part is taught from, too"

    page.click("#sources button >> nth=0")
    page.focus("#add-part")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_selector("#part[open]")
    page.keyboard.type("left door")
    page.keyboard.press("Enter")
    page.wait_for_selector("#part-told >> text=“left door” is there already")
    page.fill("#part-name", "right door")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sources button[aria-pressed=true] >> text=right door")
    page.click("#edit-part >> text=Rename or remove “right door”")
    page.fill("#part-name", "back door")
    page.click("#part-save >> text=Rename")
    page.wait_for_selector("#sources button[aria-pressed=true] >> text=back door")
    page.click("#edit-part >> text=back door")
    page.click("#part-remove")
    page.wait_for_function("() => document.querySelectorAll('#sources button').length === 2")
    assert [one["name"] for one in visit.site.get("/api/sources").json][1:] == ["left door"]
    page.wait_for_selector("#sources button[aria-pressed=true] >> nth=0")
    visit.errors = [error for error in visit.errors if "422" not in error]  # the name that was taken


def test_a_part_of_the_command_line_is_renamed_and_removed_there_alone(opened: Opened, named: Recognizer, browser: Any) -> None:
    given = NamedRegion("left door", Region(0, 0, 0.5, 1))
    visit = Visit(browser, opened([Showing()], taught=named, stream=StreamOptions(named_regions=(given,))))
    visit.page.click("#more summary")
    visit.page.click("#sources button >> text=left door")
    visit.page.wait_for_selector("#sources button[aria-pressed=true] >> text=left door")
    visit.page.wait_for_selector("#whole", state="hidden")
    assert visit.page.is_hidden("#edit-part")
    visit.page.close()


def test_the_picture_comes_into_sight_to_be_drawn_on(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 500})
    page.wait_for_selector("#seen-box:not([hidden])")
    page.click("#more summary")
    page.click("#add-part")
    page.wait_for_function("() => document.getElementById('view').getBoundingClientRect().top >= 0")
    drag(page, 0.25, 0.25, 0.5, 0.5)
    page.wait_for_selector("#part[open]")


def test_without_a_camera_chosen_pictures_are_shown_recognized_and_taught(
    opened: Opened, named: Recognizer, browser: Any, tmp_path: Path
) -> None:
    Image.fromarray(photograph("cat").read()).save(tmp_path / "cat.png")
    visit = Visit(browser, opened([], taught=named))
    page = visit.page
    page.wait_for_selector("#empty:not([hidden])")
    page.set_input_files("#files", tmp_path / "cat.png")
    page.wait_for_selector("#picture:not([hidden])")
    page.fill("#name", "cat")
    page.click("#hold")
    page.wait_for_selector("#told .undo")
    page.wait_for_selector("#empty:not([hidden])")
    page.set_input_files("#files", tmp_path / "cat.png")
    visit.until_label("cat")
    page.close()
    assert visit.errors == []
