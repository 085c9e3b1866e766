"""Publishes results to an MQTT broker."""

from __future__ import annotations

import io
import ssl
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

from PIL import Image

from sp_edge.errors import MissingExtraError, SettingsError
from sp_edge.files import json_text
from sp_edge.matching.label import UNKNOWN
from sp_edge_runtime.sinks.boxes import Boxes
from sp_edge_runtime.sinks.home_assistant import BIRTH, BORN, binary, discovery, discovery_topic, key_of
from sp_edge_runtime.sinks.publisher import TIMEOUT, Published, Publisher, Topic, split_address
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

BOXES = "boxes"
ONLINE, OFFLINE = b"online", b"offline"
GONE = {  # why a source gives no frames
    State.RESTARTING: "the source is lost",
    State.ERROR: "the source has failed",
    State.ENDED: "the source has ended",
    State.REMOVED: "the region was removed or renamed",
}
LARGEST_IMAGE = 640  # pixels of a side
_LOOKS = 0.5  # seconds between two looks for boxes that wait for too long
_PAUSES = (1, 30)  # seconds, the least and the most, between attempts of an idle client to find its broker again


class MqttSink(Publisher):
    """Publishes to an MQTT broker: frames under TOPIC/frames with quality of service 0, events under TOPIC/events with 1.

    States are retained for who comes later, and published again when the broker comes back:

    - TOPIC/status: 'online' or 'offline'. The broker itself says 'offline' of a publisher that was killed, lost its power or
      its network: that is the client's will.
    - TOPIC/KEY/status of each source: 'online' while frames come; KEY is made of its name by `home_assistant.key_of`.
    - TOPIC/KEY/state: a JSON object with `label`, `confidence`, `source`, `frame_id` and `frame_timestamp`, once for each
      change of the label. The label of a source that is lost is 'unknown'. Of a region that was taken away nothing is left.

    With `boxes`, TOPIC/KEY/boxes takes messages from other programs, and TOPIC/KEY/boxes/results has the answers; `Boxes` says
    what both are.

    Args:
        address: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; the topic is 'sp-edge' by default.
        published: which messages to send; states always are.
        backoff: the pauses between attempts.
        classes: gives the names of the taught classes. With it, the sources are announced to Home Assistant, also when that
            has started anew; TOPIC/KEY/image is the frame of the last change as JPEG, and the state has `binary`.
        boxes: recognizes the boxes of other programs.

    Raises:
        SettingsError: no such address.
        MissingExtraError: the package paho-mqtt is not installed.
    """

    def __init__(
        self,
        address: str,
        published: Published = "all",
        backoff: Backoff | None = None,
        *,
        classes: Callable[[], Sequence[str]] | None = None,
        boxes: Boxes | None = None,
    ) -> None:
        url = split_address(address, ("mqtt", "mqtts"), "mqtt://host/topic")
        topic = unquote(url.path.strip("/")) or "sp-edge"
        if any(sign in topic for sign in "+#\0"):
            raise SettingsError("no messages can be published under such a topic", expected="no +, # or NUL", got=repr(topic))
        try:
            from paho.mqtt import client, enums
        except ModuleNotFoundError as cause:
            raise MissingExtraError("publishing over MQTT needs a client", package="paho-mqtt", extra="mqtt") from cause
        self._url, self._topic, self._status = url, topic, f"{topic}/status"
        self._new_client = partial(client.Client, enums.CallbackAPIVersion.VERSION2)
        self._client: Any = None
        self._classes = classes
        self._boxes = boxes
        self._known: tuple[str, ...] = ()  # the classes that were announced
        self._labels: dict[str, str] = {}  # source -> what its state says
        self._gone: set[str] = set()  # sources that were taken away
        self._retained: dict[str, bytes] = {}  # topic -> what is to be there
        self._over = threading.Event()
        super().__init__(address, published, backoff)
        if boxes:
            threading.Thread(target=self._look_for_overdue, args=[boxes], name="boxes", daemon=True).start()

    def write(self, result: FrameResult) -> None:
        """Queues the frame's result, and the source's state where the label has changed."""
        super().write(result)
        if self._meet(result.source):
            self._retain(f"{self._place(result.source)}/status", ONLINE)
        if self._boxes:
            place = self._place(result.source)
            self._answer(place, self._boxes.answer(place, result))
        if result.label == self._labels[result.source]:
            return
        self._labels[result.source] = result.label
        shown = result.smoothed or result.prediction
        self._say(result.source, result.label, shown.confidence, result.frame.frame_id, result.frame.timestamp)
        if self._classes:
            self._retain(f"{self._place(result.source)}/image", _jpeg(result))

    def event(self, event: StreamEvent) -> None:
        """Queues the event, and what a source's change of state says about it."""
        super().event(event)
        if not isinstance(event, StateChange) or event.state is State.INITIALIZING:
            return
        place, running = self._place(event.source), event.state is State.RUNNING
        if self._boxes and running:
            self._boxes.back(place)
        elif self._boxes:
            self._answer(place, self._boxes.give_up(place, GONE[event.state]))
        if event.state is State.REMOVED:
            self._forget(event.source)
            if self._boxes:
                self._boxes.back(place)  # another region may have the name
            return
        self._meet(event.source)
        if not running:
            self._labels[event.source] = UNKNOWN
            self._say(event.source, UNKNOWN, 0.0, None, event.time)
        self._retain(f"{place}/status", ONLINE if running else OFFLINE)

    def close(self) -> None:
        """Answers the boxes that wait, and closes as every publisher does."""
        self._over.set()
        if self._boxes:
            for place in map(self._place, list(self._labels)):
                self._answer(place, self._boxes.give_up(place, "the stream has ended"))
        super().close()

    def deliver(self, topic: Topic, message: bytes) -> None:
        """Publishes one message; of all but frames the broker's acknowledgement is waited for."""
        if self._client is None:
            self._connect()
        retain = topic == "states"
        if retain:
            where, content = message.decode(), self._retained[message.decode()]
        elif topic == "answers":
            place, _, content = message.partition(b"\0")
            where = place.decode()
        else:
            where, content = f"{self._topic}/{topic}", message
        published = self._client.publish(where, content, qos=0 if topic == "frames" else 1, retain=retain)
        published.wait_for_publish(TIMEOUT)
        if not published.is_published():
            raise OSError("the broker does not answer")

    def disconnect(self) -> None:
        """Leaves the broker and ends the client's thread. A new client begins with nothing that an old one had left."""
        client, self._client = self._client, None
        if client:
            if client.is_connected():  # of who takes leave, the will is forgotten
                client.publish(self._status, OFFLINE, retain=True)
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> None:
        connected, answers = threading.Event(), []

        def answered(client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if not reason.is_failure:
                client.publish(self._status, ONLINE, qos=1, retain=True)
                if self._classes:
                    client.subscribe(BIRTH, qos=1)
                if self._boxes:
                    client.subscribe(f"{self._topic}/+/{BOXES}", qos=1)
                self._all_again()  # a broker that is back may have forgotten what it had kept
            answers.append(reason)
            connected.set()

        def heard(_client: Any, _data: Any, message: Any) -> None:
            if message.topic == BIRTH and message.payload == BORN:
                self._all_again()
            elif self._boxes and message.topic.endswith(f"/{BOXES}") and not message.retain:  # a retained one is an old one
                place = message.topic.removesuffix(f"/{BOXES}")
                if place in map(self._place, list(self._labels)):
                    self._answer(place, self._boxes.take(place, message.payload))

        client = self._client = self._new_client()
        client.on_connect, client.on_message = answered, heard
        client.connect_timeout = TIMEOUT
        client.reconnect_delay_set(*_PAUSES)
        client.will_set(self._status, OFFLINE, qos=1, retain=True)
        secure = self._url.scheme == "mqtts"
        if self._url.username is not None:
            client.username_pw_set(unquote(self._url.username), unquote(self._url.password or ""))
        if secure:
            client.tls_set_context(ssl.create_default_context())
        client.connect(self._url.hostname or "", self._url.port or (8883 if secure else 1883), keepalive=30)
        client.loop_start()
        if not connected.wait(TIMEOUT):
            raise OSError("the broker does not answer")
        if answers[0].is_failure:
            raise OSError(f"the broker answers: {answers[0]}")

    def _look_for_overdue(self, boxes: Boxes) -> None:
        while not self._over.wait(_LOOKS):
            for place in boxes.waiting():
                self._answer(place, boxes.overdue(place))

    def _answer(self, place: str, content: bytes | None) -> None:
        """Queues what is to be said about a source's boxes, if anything is."""
        if content is not None:
            self._queue("answers", f"{place}/{BOXES}/results".encode() + b"\0" + content)

    def _place(self, source: str) -> str:
        return f"{self._topic}/{key_of(source)}"

    def _meet(self, source: str) -> bool:
        """Whether a source is a new one. Home Assistant is told of it, and of other classes."""
        new, classes = source not in self._labels, tuple(self._classes()) if self._classes else ()
        if classes != self._known:
            self._known = classes
            self._labels = dict.fromkeys(self._labels, "")  # what the states say of the classes is to be said again
        elif not new:
            return False
        self._labels.setdefault(source, "")
        self._gone.discard(source)
        self._announce()
        return new

    def _announce(self) -> None:
        """Tells Home Assistant of all sources."""
        if self._classes:
            found = discovery(self._topic, self._labels, self._known, self._gone)
            self._retain(discovery_topic(self._topic), json_text(found).encode())

    def _forget(self, source: str) -> None:
        """Takes away what is retained of a source that will not come back: an empty message does so."""
        if self._labels.pop(source, None) is None:
            return
        self._gone.add(source)
        self._announce()
        for topic in [one for one in self._retained if one.startswith(f"{self._place(source)}/")]:
            self._retain(topic, b"")

    def _say(self, source: str, label: str, confidence: float, frame: int | None, timestamp: float) -> None:
        two = {"binary": binary(label, self._known)} if self._classes else {}
        state = {
            "label": label,
            "confidence": confidence,
            **two,
            "source": source,
            "frame_id": frame,
            "frame_timestamp": timestamp,
        }
        self._retain(f"{self._place(source)}/state", json_text(state).encode())

    def _retain(self, topic: str, content: bytes) -> None:
        """Queues a state; where it waits already, only the newest content is sent."""
        self._retained[topic] = content
        self._queue("states", topic.encode())

    def _all_again(self) -> None:
        for topic in list(self._retained):
            self._queue("states", topic.encode())


def _jpeg(result: FrameResult) -> bytes:
    image, file = Image.fromarray(result.frame.image_rgb), io.BytesIO()
    image.thumbnail((LARGEST_IMAGE, LARGEST_IMAGE))
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
