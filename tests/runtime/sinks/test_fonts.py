import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sp_edge_runtime.sinks import fonts
from sp_edge_runtime.sinks.fonts import Face, font, legible


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    font.cache_clear()
    legible.cache_clear()
    yield
    font.cache_clear()
    legible.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Pillow's own font alone."""
    monkeypatch.setattr(fonts, "Face", lambda *_: Face("no such font.ttf"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(fonts, "FOLDERS", ())


@pytest.mark.parametrize("text", ["red", "Zürcher Kaffeetasse", ""])
def test_latin_is_written_in_the_usual_font(text: str) -> None:
    assert legible(text) == (text, Face())


@pytest.mark.usefixtures("no_fonts")
def test_letters_that_no_font_has_are_told_apart_and_said(caplog: pytest.LogCaptureFixture) -> None:
    shown = [legible(name)[0] for name in ("猫", "犬", "black 猫", "猫")]
    assert shown == ["\\u732b", "\\u72ac", "black \\u732b", "\\u732b"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3, "once a name"
    assert "'猫'" in said[0]
    assert "fonts-noto-cjk" in said[0]


def test_a_font_that_has_the_letters_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    if not shutil.which("fc-match"):
        pytest.skip("fontconfig is not installed")
    real = fonts._installed("кошка")
    if real is None or not fonts._has_letters(font(16, real), "кошка"):
        pytest.skip("no font with Cyrillic letters is installed")
    monkeypatch.setattr(fonts, "Face", lambda *given: Face(*given) if given else Face("no such font.ttf"))
    assert legible("кошка") == ("кошка", real)
    assert not caplog.records


def test_without_fontconfig_fonts_are_found_where_they_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builder, pens = pytest.importorskip("fontTools.fontBuilder"), pytest.importorskip("fontTools.pens.ttGlyphPen")
    empty, square = pens.TTGlyphPen(None).glyph(), pens.TTGlyphPen(None)
    square.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        square.lineTo(corner)
    square.closePath()
    made = builder.FontBuilder(1000)
    made.setupGlyphOrder([".notdef", "cat"])
    made.setupCharacterMap({ord("猫"): "cat"})
    made.setupGlyf({".notdef": empty, "cat": square.glyph()})
    made.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": "Cat", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    (tmp_path / "noto").mkdir()
    (tmp_path / "noto" / "broken.ttf").write_bytes(b"no font")
    made.save(tmp_path / "noto" / "cat.otf")
    monkeypatch.setattr(fonts, "Face", lambda *given: Face(*given) if given else Face("no such font.ttf"))
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    monkeypatch.setenv("PATH", "")
    assert legible("猫") == ("猫", Face(str(tmp_path / "noto" / "cat.otf")))
    assert legible("犬")[0] == "\\u72ac"
