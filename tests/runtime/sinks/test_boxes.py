"""Boxes of other programs: messages, and what is answered, over mosquitto, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import toy
from mosquitto import Broker
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.boxes import LARGEST, MOST, PATIENCE, Boxes
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import until

HALVES = {"boxes": [[0.5, 0, 0.5, 1], [0, 0, 40, 40]]}


@pytest.fixture
def wide(result: FrameResult) -> FrameResult:
    """Red on the left, blue on the right."""
    image = np.concatenate([toy.picture("red", side=40), toy.picture("blue", side=40)], axis=1)
    return replace(result, frame=replace(result.frame, image_rgb=image))


@pytest.fixture
def boxes(recognizer: Recognizer) -> Boxes:
    return Boxes(recognizer)


def said(answer: bytes | None) -> Any:
    assert answer is not None
    return json.loads(answer)


def test_boxes_are_recognized_on_the_next_frame(boxes: Boxes, wide: FrameResult) -> None:
    assert boxes.answer("door", wide) is None
    assert boxes.take("door", json.dumps({"id": "a 7", **HALVES, "labels": ["x"]}).encode()) is None
    assert boxes.answer("yard", wide) is None, "that is another source"
    found = said(boxes.answer("door", wide))
    assert (found["id"], found["source"], found["frame_id"]) == ("a 7", "camera", wide.frame.frame_id)
    assert found["frame_timestamp"] == wide.frame.timestamp
    assert [one["label"] for one in found["results"]] == ["赤い 自転車", "red"], "in their order"
    assert [one["frame_id"] for one in found["results"]] == [wide.frame.frame_id] * 2
    assert boxes.answer("door", wide) is None, "once"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"boxes": []}',
        b'{"boxes": 7}',
        b'{"boxes": [7]}',
        b'{"boxes": [[0, 0, 1]]}',
        b'{"boxes": [[0, 0, 1, 1, 1]]}',
        b'{"boxes": [[0, 0, true, 1]]}',
        b'{"boxes": [[0, 0, "1", 1]]}',
        b'{"boxes": [[0, 0, 0, 1]]}',
        b'{"boxes": [[0.5, 0, 0.6, 1]]}',
        b'{"boxes": [[-1, 0, 1, 1]]}',
        b'{"boxes": [[0, 0, NaN, 1]]}',
        b'{"boxes": [[0, 0, 1e999, 1]]}',
        b'{"boxes": [[0, 0, 1' + b"0" * 400 + b", 1]]}",
        json.dumps({"boxes": [[0, 0, 1, 1]] * (MOST + 1)}).encode(),
        json.dumps({"boxes": [[0, 0, 1, 1]], "x": "x" * LARGEST}).encode(),
        b"[" * 5000,
    ],
)
def test_messages_of_another_form_are_answered(boxes: Boxes, wide: FrameResult, message: bytes) -> None:
    refused = said(boxes.take("door", message))
    assert refused["error"]
    assert "id" not in refused
    assert boxes.answer("door", wide) is None


def test_refusals_say_which_message(boxes: Boxes, wide: FrameResult) -> None:
    assert said(boxes.take("door", b'{"id": 7, "boxes": []}'))["id"] == 7
    assert boxes.take("door", b'{"id": 8, "boxes": [[0, 0, 640, 64]]}') is None
    assert said(boxes.answer("door", wide))["error"].endswith("leaves the picture")
    boxes.take("door", b'{"id": 9, "boxes": [[0, 0, 1, 1]]}')
    replaced = said(boxes.take("door", b'{"id": [10], "boxes": [[0, 0, 1, 1]]}'))
    assert (replaced["id"], replaced["error"]) == (9, "another message came before the next frame")
    assert "id" not in said(boxes.answer("door", wide)), "10 stood in a list"
    boxes.take("door", b'{"id": 11, "boxes": [[0, 0, 1, 1]]}')
    assert said(boxes.give_up("door", "it is dark")) == {"id": 11, "error": "it is dark", "expected": "", "got": ""}
    assert boxes.answer("door", wide) is None
    assert boxes.give_up("door", "it is dark") is None


def test_messages_to_a_source_without_frames_are_refused_at_once(boxes: Boxes, wide: FrameResult) -> None:
    asked = json.dumps({"id": 1, **HALVES}).encode()
    boxes.give_up("door", "the source is lost")
    assert said(boxes.take("door", asked)) == {"id": 1, "error": "the source is lost", "expected": "", "got": ""}
    assert boxes.take("yard", asked) is None, "that is another source"
    assert boxes.answer("door", wide) is None, "nothing waited"
    boxes.back("door")
    assert boxes.take("door", asked) is None
    assert said(boxes.answer("door", wide))["results"]


def test_a_message_waits_for_a_few_seconds(boxes: Boxes, wide: FrameResult, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sp_edge_runtime.sinks.boxes.time.monotonic", lambda: now[0])
    asked = json.dumps({"id": 1, **HALVES}).encode()
    boxes.take("door", asked)
    now[0] += PATIENCE
    assert boxes.overdue("door") is None
    assert said(boxes.answer("door", wide))["results"]
    boxes.take("door", asked)
    now[0] += PATIENCE + 0.1
    assert said(boxes.answer("door", wide))["error"] == "no frame came within 5 s", "the scene is another one by now"
    boxes.take("door", asked)
    now[0] += PATIENCE + 0.1
    assert boxes.waiting() == ["door"]
    assert said(boxes.overdue("door"))["error"] == "no frame came within 5 s"
    assert boxes.waiting() == []
    assert boxes.overdue("door") is None


@pytest.fixture
def sink(broker: Broker, recognizer: Recognizer) -> Iterator[MqttSink]:
    broker.start()
    until(broker.answers)
    broker.listen()
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/shop", "events", Backoff(0.01, 0.05), boxes=Boxes(recognizer))
    yield sink
    sink.close()


def test_a_program_asks_and_is_answered_over_a_broker(broker: Broker, sink: MqttSink, wide: FrameResult) -> None:
    front = replace(wide, source="Front door")

    def ask(message: dict[str, Any]) -> None:
        assert broker.listener is not None
        broker.listener.client.publish(f"{place}/boxes", json.dumps(message), qos=1)

    def answers() -> list[Any]:
        return [json.loads(one) for one in broker.said(f"{place}/boxes/results")]

    sink.write(front)
    until(lambda: any(topic.endswith("/state") for topic, *_ in broker.got))
    place = next(topic.removesuffix("/state") for topic, *_ in broker.got if topic.endswith("/state"))
    ask({"id": 1, **HALVES})
    until(lambda: bool(sink.write(front)) or len(answers()) == 1)
    assert (answers()[0]["id"], answers()[0]["source"]) == (1, "Front door")
    assert [one["label"] for one in answers()[0]["results"]] == ["赤い 自転車", "red"]
    ask({"id": 2})
    until(lambda: len(answers()) == 2)
    assert (answers()[1]["id"], answers()[1]["error"]) == (2, "the message has no boxes")
    lost = StateChange("Front door", State.RESTARTING, 0.0, "unplugged")
    reasons = {
        lost: "the source is lost",
        replace(lost, state=State.ERROR): "the source has failed",
        replace(lost, state=State.ENDED): "the source has ended",
        replace(lost, state=State.REMOVED): "the region was removed or renamed",
    }
    for change, reason in reasons.items():
        count = len(answers())
        sink.event(replace(lost, state=State.RUNNING))
        ask({"id": 3, **HALVES})
        until(lambda: bool(sink._boxes and sink._boxes.waiting()))
        sink.event(change)
        until(lambda count=count: len(answers()) == count + 1)
        assert answers()[-1]["error"] == reason
    sink.event(lost)
    ask({"id": 4, **HALVES})
    until(lambda: len(answers()) == 7)
    assert (answers()[-1]["id"], answers()[-1]["error"]) == (4, "the source is lost"), "while it is"
    sink.event(replace(lost, state=State.RUNNING))
    ask({"id": 5, **HALVES})
    until(lambda: bool(sink._boxes and sink._boxes.waiting()))
    sink.close()
    until(lambda: len(answers()) == 8)
    assert (answers()[-1]["id"], answers()[-1]["error"]) == (5, "the stream has ended")
    assert not {topic for topic, _, retained in broker.got if retained} & {f"{place}/boxes/results"}


def test_an_old_message_that_the_broker_kept_is_passed_over(broker: Broker, sink: MqttSink, result: FrameResult) -> None:
    assert broker.listener is not None
    broker.listener.client.publish("shop/camera/boxes", json.dumps(HALVES), qos=1, retain=True)
    until(lambda: "shop/camera/boxes" in broker.kept())
    sink.write(result)
    until(lambda: "shop/camera/state" in broker.kept())
    sink.write(result)
    assert sink._boxes is not None
    assert sink._boxes.waiting() == []
    assert broker.said("shop/camera/boxes/results") == []


def test_a_message_is_answered_where_no_frame_comes_any_more(broker: Broker, sink: MqttSink, result: FrameResult) -> None:
    assert broker.listener is not None
    assert sink._boxes is not None
    sink._boxes._patience = 0.1
    sink.write(result)
    until(lambda: "shop/camera/state" in broker.kept())
    broker.listener.client.publish("shop/camera/boxes", json.dumps(HALVES), qos=1)
    until(lambda: bool(broker.said("shop/camera/boxes/results")))
    assert json.loads(broker.said("shop/camera/boxes/results")[0])["error"] == "no frame came within 0.1 s"
