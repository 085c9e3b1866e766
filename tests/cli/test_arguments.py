from __future__ import annotations

from pathlib import Path

import pytest

from sp_edge.cli.arguments import split_bundle


def test_the_bundle_is_taken_off_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_bundle: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_bundle((Path("x.spedge"), Path("y.png"))) == (Path("x.spedge"), (Path("y.png"),))
    assert split_bundle((toy_bundle,)) == (toy_bundle, ())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "manifest.json").write_text('{"name": "Album", "start_url": "."}')
    for number in ("1", "2", "10"):
        (tmp_path / "runs" / number / "model.spedge").mkdir(parents=True)
    (tmp_path / "runs" / "11").mkdir()
    for pictures in (Path("y.png"), tmp_path / "photos"):
        assert split_bundle((pictures,)) == (Path("runs/10/model.spedge"), (pictures,))
