"""What `sp-edge export` refuses before any work, and what it makes of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sp_edge.bundle import Bundle
from sp_edge.cli import cli, formats
from sp_edge.cli.common import run
from sp_edge.cli.ship import export

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def sp_edge(*arguments: object) -> tuple[int, str, str]:
        code = run(cli, [str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return sp_edge


@pytest.mark.parametrize("option", [("--batch", 3), ("--workspace", 2), ("--target", "rtx"), ("--batch", 1)])
def test_an_option_that_would_do_nothing_is_refused(call: Call, option: tuple[str, object]) -> None:
    code, out, err = call("export", *option)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option[0]} does nothing with --format onnx")


def test_every_option_of_a_format_exists_and_every_format_too() -> None:
    names = {parameter.name for parameter in export.params}
    assert set(formats.APPLIES) <= names
    assert {form for forms in formats.APPLIES.values() for form in forms} <= set(formats.FORMATS)
    chosen = next(parameter for parameter in export.params if parameter.name == "form")
    assert isinstance(chosen.type, click.Choice)
    assert list(chosen.type.choices) == list(formats.FORMATS)


def test_a_bundle_as_it_is_is_refused(call: Call, toy_bundle: Path) -> None:
    code, _, err = call("export", toy_bundle)
    assert code == 2
    assert "is a bundle already" in err


@pytest.mark.parametrize("option", [("--out", "x"), ("--data", "."), ("--prompts", "p"), ("--max-drop", 0.5)])
def test_what_makes_graphs_does_nothing_with_a_bundle(
    call: Call, toy_bundle: Path, option: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FORMATS", {})
    monkeypatch.setattr("sp_edge.cli.ship.FORMATS", {"engine": lambda _options: lambda *_: pytest.fail("made")})
    code, _, err = call("export", toy_bundle, "--format", "engine", *option)
    assert code == 2
    assert f"{option[0]} does nothing with a bundle" in err


@pytest.mark.parametrize(("given", "precision"), [((), "fp32"), (("--precision", "fp16"), "fp16")])
def test_a_format_gets_the_bundle_and_the_options(
    call: Call, toy_bundle: Path, given: tuple[str, ...], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Path, str, object]] = []

    def prepare(options: dict[str, object]) -> formats.Make:
        return lambda bundle, chosen: made.append((bundle.path, chosen, options["batch"]))

    monkeypatch.setattr("sp_edge.cli.ship.FORMATS", {"engine": prepare})
    code, _, err = call("export", toy_bundle, "--format", "engine", "--batch", 4, *given)
    assert code == 0, err
    assert made == [(toy_bundle, precision, 4)]
    assert Bundle.load(toy_bundle)
