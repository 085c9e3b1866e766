"""What the sinks of a stream's command are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sp_edge.cli.outputs import output_sinks
from sp_edge_runtime.recognizer import Recognizer


def test_home_assistant_hears_of_classes_and_not_of_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Sequence[str]] = []

    def opened(_url: str, _publish: str, *, classes: Callable[[], Sequence[str]]) -> Any:
        told.append(classes())

    monkeypatch.setattr("sp_edge_runtime.sinks.mqtt.MqttSink", opened)
    bank = SimpleNamespace(names=("mug", "not 'mug'", "cup"), classes=("mug", "cup"))
    recognizer = cast("Recognizer", SimpleNamespace(bank=bank))
    assert len(list(output_sinks(recognizer, None, "mqtt://broker/door", None, "all", home_assistant=True))) == 1
    assert told == [("mug", "cup")], "two classes have a binary sensor, whatever is not one of them"
