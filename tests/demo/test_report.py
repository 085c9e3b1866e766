from __future__ import annotations

import base64
import errno
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from photograph_story import photograph_story
from sp_edge.data.scenes import draw_scene, split_classes
from sp_edge.demo import elements, plots
from sp_edge.demo.elements import VIDEO_LIMIT, FilmFrame
from sp_edge.demo.report import AttentionPicture, EpisodePictures, Story, TaughtClass, write_report

VOID = {"meta", "link", "img", "br", "source", "hr", "input"}
HOSTILE = "<script>alert('a')</script> & \"b\""
ACCURACY = {
    "pretrained": ((0.512, 0.009), (0.633, 0.008), (0.655, 0.0085), (0.8, 0.006)),
    "tuned": ((0.603, 0.0092), (0.741, 0.0081), (0.7425, 0.0074), (0.853, 0.005)),
    "sp": ((0.741, 0.0089), (0.7502, 0.0083), (0.8111, 0.0066), (0.8472, 0.0052)),
}


def accuracy() -> dict[str, Any]:
    """Invented."""
    cells = [("1-shot", "clutter"), ("1-shot", "clean"), ("5-shot", "clutter"), ("5-shot", "clean")]
    found: dict[str, Any] = {}
    for row, figures in ACCURACY.items():
        for (shots, group), (mean, half) in zip(cells, figures, strict=True):
            found.setdefault(row, {}).setdefault(shots, {})[group] = {"mean": mean, "interval": half, "episodes": 600}
    return found


def summary() -> dict[str, Any]:
    """Invented."""
    of = {"mean": 0.7391, "interval": 0.009, "episodes": 300}
    before = {"mean": 0.7402, "interval": 0.009, "episodes": 300}
    stage = {"cosine_mean": 0.9999998, "cosine_min": 0.9999991, "largest_difference": 3.2e-5, "pictures": 480}
    times = {"capture": 1.1, "preprocess": 0.62, "inference": 4.87, "postprocess": 0.21, "sinks": 6.3}
    return {
        "accuracy": accuracy(),
        "parity": {
            "stages": [
                {"stage": "fp32", "against": "pytorch", **stage, "accuracy": before, "accuracy_before": before},
                {"stage": "int8", "against": "fp32", **stage, "accuracy": of, "accuracy_before": before},
            ]
        },
        "stream": {
            "frames": 400,
            "fps": 76.4,
            "stages": {name: {"mean_ms": ms, "median_ms": 0.9 * ms} for name, ms in times.items()},
            "right": 221,
            "shown": 250,
            "unknown_right": 117,
            "unknown_shown": 150,
        },
        "seconds": {"train with prompts": 401.5, "train without prompts": 122.3, "export": 14.3, "stream": 5.2},
        "prompts": {"strength": 0.9, "text_share": 0.5},
        "settings": {"data": {"source": "scenes", "per_class": 20}, "seed": 0, "tune": {"lr": 1e-6}},
        "versions": {"sp-edge": "0.1.0", "torch": "2.9.0"},
        "machine": {"processor": "Imaginary CPU @ 2.00GHz", "cores": 2},
        "base_classes": 456,
        "novel_classes": 96,
        "base_pictures": 18240,
        "steps": {"pretrain": 6000, "tune": 1500},
        "checkpoint": "demo/runs/1/checkpoint.safetensors",
        "bundle": "demo/runs/1/bundle",
        "bank": "demo/runs/1/bank.safetensors",
        "video": "demo/stream.webm",
        "results": "demo/results.jsonl",
    }


def attention(height: int, width: int, seed: int, sharpness: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Float32 (height, width), sums to 1."""
    drawn = np.exp(sharpness * np.random.default_rng(seed).normal(size=(height, width)))
    return (drawn / drawn.sum()).astype(np.float32)


def sample(names: list[str] | None = None, video: Path | None = None, side: int = 96) -> Story:
    """A story with drawn scenes and invented figures."""
    rng = np.random.default_rng(3)
    classes = split_classes()["test"]
    looks = [classes[i] for i in (3, 21, 40, 66, 90)]
    names = names or [look.name for look in looks]
    pictures = [draw_scene(look, rng, side, classes[10]) for look in looks]
    truth = [way for way in range(5) for _ in range(2)]
    return Story(
        summary=summary(),
        photographs=photograph_story(tuple(names), video),
        episode=EpisodePictures(
            names=names,
            support=np.stack(pictures),
            queries=np.stack([draw_scene(looks[way], rng, side, classes[50]) for way in truth]),
            truth=truth,
            with_prompts=[0, 0, 1, 1, 2, 0, 3, 3, 4, 4],
            without_prompts=[0, 1, 1, 4, 2, 0, 3, 2, 4, 4],
        ),
        attention=[
            AttentionPicture(name, image, attention(6, 6, i, 0.2), attention(6, 6, i + 9, 1.0), attention(3, 3, i, 1.0))
            for i, (name, image) in enumerate(zip(names[:4], pictures, strict=False))
        ],
        film=[
            FilmFrame(draw_scene(looks[i % 5], rng, 160), 0.4 + 1.6 * i, names[i % 5] if i % 3 != 2 else "unknown")
            for i in range(8)
        ],
        video=video,
        classes=[TaughtClass(name, image) for name, image in zip(names, pictures, strict=True)],
    )


class Page(HTMLParser):
    """Reads a page; elements that are not closed, or closed twice, are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(story: Story, folder: Path) -> tuple[str, Page]:
    write_report(folder / "report.html", story)
    text = (folder / "report.html").read_text("utf-8")
    return text, Page(text)


def changed(story: Story, shots: str, group: str, *, ours: tuple[float, float], theirs: tuple[float, float]) -> Story:
    """With other figures (mean, interval) for the network with prompts and the one without."""
    for row, (mean, interval) in (("sp", ours), ("tuned", theirs)):
        story.summary["accuracy"][row][shots][group].update(mean=mean, interval=interval)
    return story


@pytest.fixture(scope="module")
def story() -> Story:
    return sample()


@pytest.fixture(scope="module")
def page(story: Story, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return written(story, tmp_path_factory.mktemp("report"))


# --- what the page says ---


def test_the_page_holds_every_accuracy(page: tuple[str, Page], story: Story) -> None:
    for shots in story.summary["accuracy"].values():
        for groups in shots.values():
            for cell in groups.values():
                assert f"<td>{100 * cell['mean']:.1f} ± {100 * cell['interval']:.1f}</td>" in page[0]
    assert "<td>74.1 ± 0.9</td>" in page[0]
    assert "mean of 600 episodes" in page[1].text


def test_the_plot_holds_every_mean_and_the_chance_level(page: tuple[str, Page]) -> None:
    drawn = page[0].split("<svg")[1:]
    assert len(drawn) == 2
    cells = [("1-shot", 0, 2), ("5-shot", 2, 4)]
    for svg, (shots, first, last) in zip(drawn, cells, strict=True):
        assert shots in svg.split(">")[0]
        assert "chance" in svg
        assert "20 %" in svg
        for figures in ACCURACY.values():
            assert all(f">{100 * mean:.1f}<" in svg for mean, _ in figures[first:last])


@pytest.mark.parametrize(
    ("ours", "theirs", "lead", "verdict", "gain"),
    [
        ((0.741, 0.009), (0.603, 0.009), "74.1 % with prompts against 60.3 % without", "13.8 points ahead", "+13.8"),
        ((0.41, 0.02), (0.392, 0.015), "41.0 % with prompts against 39.2 % without", "does not tell the two apart", "(+1.8)"),
        ((0.392, 0.02), (0.41, 0.015), "39.2 % with prompts against 41.0 % without", "does not tell the two apart", "(−1.8)"),  # noqa: RUF001
        ((0.3, 0.01), (0.3, 0.01), "30.0 % with prompts against 30.0 % without", "does not tell the two apart", "(+0.0)"),
        ((0.38, 0.01), (0.43, 0.01), "38.0 % with prompts against 43.0 % without", "5.0 points behind", "−5.0"),  # noqa: RUF001
    ],
)
def test_the_lead_says_what_the_figures_say(
    tmp_path: Path, ours: tuple[float, float], theirs: tuple[float, float], lead: str, verdict: str, gain: str
) -> None:
    _, read = written(changed(sample(side=32), "1-shot", "clutter", ours=ours, theirs=theirs), tmp_path)
    assert f"One cluttered picture a class: {lead}." in read.text
    found = [word for word in ("points ahead", "does not tell the two apart", "points behind") if word in read.text]
    assert len(found) == 1
    assert verdict in read.text
    assert f"{gain}1-shot, clean" in read.text


def test_the_page_says_who_was_right(page: tuple[str, Page]) -> None:
    text = page[1].text
    assert "Of these 10 queries, 9 are recognized rightly with prompts and 6 without." in text
    assert (text.count("✓"), text.count("✗")) == (16, 6)
    assert (text.count("(right)"), text.count("(wrong)")) == (16, 6)


def test_the_page_holds_the_stream_the_parity_and_the_times(page: tuple[str, Page]) -> None:
    text = page[1].text
    for said in ("88.4 %", "(221 of 250)", "78.0 %", "(117 of 150)", "76 fps", "400 frames", "unknown", "4.87", "3.2e-05"):
        assert said in text
    for said in ("fp32 against pytorch", "int8 against fp32", "73.9 ± 0.9", "6 min 42 s", "14.3 s", "9 min 03 s"):
        assert said in text
    for said in (
        "18,240 pictures of 456 base classes",
        "6,000 steps",
        "1,500 steps",
        "0.9 beside one picture, 50 % of it",
        "Imaginary CPU @ 2.00GHz, 2 cores",
    ):
        assert said in text
    for said in ("demo/runs/1/bank.safetensors", "data.per_class", "tune.lr", "1e-06", "2.9.0"):
        assert said in text


def test_a_stream_without_strangers_is_told(tmp_path: Path) -> None:
    alone = sample(side=32)
    alone.summary["stream"].update(unknown_shown=0, unknown_right=0)
    text = written(alone, tmp_path)[1].text
    assert "(221 of 250)" in text
    assert "78.0 %" not in text


# --- how the page is made ---


def test_the_page_needs_nothing_else(page: tuple[str, Page]) -> None:
    text, read = page
    assert "http:" not in text.lower()
    assert "https:" not in text.lower()
    assert "@import" not in text
    assert "url(" not in text
    assert read.named("script") == []
    for _, attributes in read.elements:
        for key in ("src", "href", "poster", "srcset", "data", "xlink:href"):
            assert (attributes.get(key) or "data:").startswith("data:")


def test_the_page_is_sound(page: tuple[str, Page], story: Story) -> None:
    text, read = page
    assert text.startswith("<!DOCTYPE html>")
    assert read.named("html")[0]["lang"] == "en"
    assert "prefers-color-scheme: dark" in text
    assert all(attributes.get("alt") for attributes in read.named("img"))
    assert all(attributes.get("aria-label") for attributes in read.named("svg"))
    identities = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    photographs = 2 * 5 + 1 + 5 + len(story.photographs.film)  # taught with their scale, one under two names, film
    # the hero, support, queries, attention with its scale, taught, film
    assert len(read.named("img")) == 1 + photographs + 5 + 10 + 4 * 5 + 5 + len(story.film)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    names = [f"{HOSTILE} {number} $lead ${{x}}" for number in range(5)]
    hostile = sample(names, side=32)
    hostile.summary["machine"]["processor"] = hostile.summary["bank"] = HOSTILE
    hostile.summary["settings"][HOSTILE] = [HOSTILE]
    hostile.summary["seconds"][HOSTILE] = 1.0
    hostile.summary["parity"]["stages"][0]["against"] = HOSTILE
    text, read = written(hostile, tmp_path)
    assert "<script" not in text
    assert read.named("script") == []
    assert {key for _, attributes in read.elements for key in attributes if key.startswith("on")} == set()
    assert read.text.count(HOSTILE) > 20
    assert names[4] in read.text
    assert f"Query picture of {names[0]}" in {attributes["alt"] for attributes in read.named("img")}


# --- the video ---


def test_a_small_webm_is_carried(tmp_path: Path) -> None:
    (tmp_path / "stream.webm").write_bytes(b"webm" * 100)
    text, read = written(sample(video=tmp_path / "stream.webm", side=32), tmp_path)
    videos = read.named("video")
    assert len(videos) == 2  # of photographs and of drawn scenes
    for video in videos:
        assert video["src"] == "data:video/webm;base64," + base64.b64encode(b"webm" * 100).decode()
        assert "controls" in video
        assert str(video["poster"]).startswith("data:image/")
    assert "There is no video" not in text


@pytest.mark.parametrize(("name", "size"), [("stream.webm", VIDEO_LIMIT), ("stream.mp4", 10)])
def test_another_video_is_named(tmp_path: Path, name: str, size: int) -> None:
    (tmp_path / name).write_bytes(bytes(size))
    _, read = written(sample(video=tmp_path / name, side=32), tmp_path)
    assert read.named("video") == []
    assert str(tmp_path / name) in read.text


@pytest.mark.parametrize("name", ["missing.webm", None])
def test_no_video_is_said(tmp_path: Path, name: str | None) -> None:
    _, read = written(sample(video=name and tmp_path / name, side=32), tmp_path)
    assert read.named("video") == []
    assert "There is no video of this stream." in read.text


# --- the file ---


def test_the_page_replaces_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    written(sample(side=32), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="full"):
        write_report(tmp_path / "report.html", sample(side=32))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.html", "old")]


# --- the drawings ---


def test_the_heat_map_glows_where_the_attention_is() -> None:
    image = np.full((60, 90, 3), 128, dtype=np.uint8)
    where = np.zeros((3, 3), dtype=np.float32)
    where[0, 2] = 1
    drawn = plots.heat_map(image, where, 1.0)
    assert drawn.shape == (180, 270, 3)
    warmth = drawn[..., 0].astype(int) - drawn[..., 2]
    assert warmth[15, 255] > 60
    assert abs(warmth[165, 15]) < 5
    assert drawn[165, 15].min() > 60  # the picture is not hidden


def test_heat_maps_of_one_peak_share_their_scale() -> None:
    image = np.full((48, 48, 3), 90, dtype=np.uint8)
    even = np.full((3, 3), 1 / 9, dtype=np.float32)
    assert np.array_equal(plots.heat_map(image, even, 1 / 9), plots.heat_map(image, even * 4, 4 / 9))
    assert not np.array_equal(plots.heat_map(image, even, 1 / 9), plots.heat_map(image, even, 4 / 9))


def test_a_picture_survives_its_uri() -> None:
    image = draw_scene(split_classes()["test"][0], np.random.default_rng(0), 96)
    head, _, content = elements.picture_uri(image).partition(",")
    assert head == "data:image/jpeg;base64"
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 6


def test_only_markup_goes_unescaped() -> None:
    assert elements.tag("p", "<b>", elements.tag("i", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert elements.tag("img", alt="", aria_hidden=True) == '<img alt="" aria-hidden>'
