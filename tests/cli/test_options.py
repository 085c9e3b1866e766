"""The options of a command are those of the dataclass that it hands on, with its words and defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import click
import pytest

from sp_edge.cli.common import Command, run
from sp_edge.cli.options import options_of
from sp_edge.cli.stream import stream
from sp_edge.options import check, described, number, whole
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        count: Take so many, 1 or more,
            in one go.
        share: Keep this share. Without it, all.
        kind: Choose a kind.
        fast: Hurry.

    Raises:
        SettingsError: out of range.
    """

    count: int = 1
    share: float | None = None
    kind: Literal["one", "other"] = "one"
    fast: bool = False

    def __post_init__(self) -> None:
        check(self, count=(whole(self.count, 1), "1 or more"))


def calling(*arguments: str) -> tuple[int, list[Chosen]]:
    found: list[Chosen] = []
    group = click.Group()

    @group.command(cls=Command)
    @options_of(Chosen, "chosen", {"kind": {"option": "--sort"}})
    def go(chosen: Chosen) -> None:
        found.append(chosen)

    return run(group, ["go", *arguments]), found


def test_a_command_gets_the_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    assert calling() == (0, [Chosen()])
    code, (chosen,) = calling("--count", "3", "--share", "0.5", "--sort", "other", "--fast")
    assert (code, chosen) == (0, Chosen(3, 0.5, "other", fast=True))
    assert calling("--count", "0") == (2, [])
    assert "error: --count is out of range\n  expected: 1 or more\n  got: 0" in capsys.readouterr().err
    assert calling("--count", "many")[0] == 2
    assert calling("--sort", "none")[0] == 2


def test_words_and_defaults_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    calling("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "Take so many, 1 or more, in one go. [default: 1]" in said
    assert "Keep this share. Without it, all. --sort [one|other] Choose a kind. [default: one]" in said
    assert "--fast Hurry. --debug" in said


@pytest.mark.parametrize("settings", [SourceOptions, StreamOptions])
def test_stream_has_the_options_of_python(settings: Any) -> None:
    words = described(settings)
    assert list(words) == [field.name for field in dataclasses.fields(settings)], "all are described, in their order"
    options = {param.name: param for param in stream.params if isinstance(param, click.Option)}
    context = stream.make_context("stream", ["0"])
    for field in dataclasses.fields(settings):
        option = options[field.name]
        assert option.help == words[field.name]
        assert context.params[field.name] == getattr(settings(), field.name), "the same default"


def test_numbers() -> None:
    assert all((number(1), number(0.5, 0, 1), whole(3, 1), number(0.1, above=0)))
    for value in (float("nan"), float("inf"), "1", None, 1j, [1]):
        assert not number(value)
    assert not number(0, above=0)
    assert not number(2, most=1)
    assert not whole(1.0)
