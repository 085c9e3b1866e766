"""Sends results over the network without ever making recognition wait."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from sp_edge.errors import SettingsError
from sp_edge.files import json_text
from sp_edge_runtime.sources.address import redact, redact_within
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult, StreamEvent
from sp_edge_runtime.streams.summary import Delivery

Published = Literal["all", "frames", "events"]
Topic = Literal["states", "events", "answers", "frames"]

ROOM: dict[Topic, int] = {
    "states": 1000,
    "events": 1000,
    "answers": 64,
    "frames": 64,
}  # messages that wait; where there are more, the oldest is dropped
LINGER = 2.0  # seconds at the end in which what waits is still sent
TIMEOUT = 5.0  # seconds for a connection and for an answer
_log = logging.getLogger("sp_edge_runtime")


class Refused(Exception):  # noqa: N818 - no error of the user's
    """The place took the message and does not want it; sending it again would not help."""


class Publisher(ABC):
    """A sink whose messages wait in a queue of bounded length for a thread that sends them.

    A place that is slow or away costs messages and nothing else: the oldest are dropped and counted, frames before events. What
    a sub-class queues under 'states' goes first. An attempt that fails is made again after a pause that grows to half a minute.

    Args:
        address: of the place, with credentials where it needs some.
        published: which messages to send.
        backoff: the pauses between attempts.
        place: the address without credentials, where `redact` does not know which these are.
    """

    def __init__(
        self, address: str, published: Published = "all", backoff: Backoff | None = None, *, place: str | None = None
    ) -> None:
        self.place = place or redact(address)
        self._address = address
        self._published = published
        self._backoff = backoff or Backoff()
        self._waiting: dict[Topic, deque[bytes]] = {topic: deque() for topic in ROOM}
        self._news = threading.Condition()
        self._deadline: float | None = None  # of the end
        self._sent = self._dropped = 0
        self._in_hand = False  # a message is with the sender
        self._closed = False
        self._error, self._away = "", False
        self._sender = threading.Thread(target=self._send, name=f"sender to {self.place}", daemon=True)
        self._sender.start()

    def write(self, result: FrameResult) -> None:
        """Queues the frame's result."""
        self._publish("frames", result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Queues the event; events are sent before frames that wait."""
        self._publish("events", event.to_json())

    def close(self) -> None:
        """Gives what waits another two seconds; a second call does nothing. Messages that come later are dropped."""
        with self._news:
            self._deadline = self._deadline or time.monotonic() + LINGER
            self._news.notify_all()
        self._sender.join(LINGER + 2 * TIMEOUT)
        with self._news:
            self._closed = True
            for queue in self._waiting.values():
                self._dropped += len(queue)
                queue.clear()
            self._done(sent=False)  # where the sender hangs, its message is lost

    def delivery(self) -> Delivery:
        """What became of the messages so far."""
        with self._news:
            return Delivery(self.place, self._sent, self._dropped, self._error)

    @abstractmethod
    def deliver(self, topic: Topic, message: bytes) -> None:
        """Sends one message and waits until it has arrived; raises Refused, or anything else where it is to be sent again."""

    @abstractmethod
    def disconnect(self) -> None:
        """Gives up the connection, if there is one."""

    def _publish(self, topic: Topic, value: dict[str, Any]) -> None:
        if self._published in ("all", topic):
            self._queue(topic, json_text(value).encode())

    def _queue(self, topic: Topic, message: bytes) -> None:
        """Queues a message, unless it waits there already as a state."""
        with self._news:
            if self._closed:
                self._dropped += 1
                return
            queue = self._waiting[topic]
            if topic == "states" and message in queue:
                return
            if len(queue) >= ROOM[topic]:
                queue.popleft()
                self._dropped += 1
            queue.append(message)
            self._news.notify_all()

    def _send(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._try(*item)
        finally:
            self.disconnect()

    def _next(self) -> tuple[Topic, bytes] | None:
        with self._news:
            self._news.wait_for(lambda: any(self._waiting.values()) or self._deadline)
            if self._ending():
                return None
            for topic, queue in self._waiting.items():
                if queue:
                    self._in_hand = True
                    return topic, queue.popleft()
            return None

    def _done(self, *, sent: bool) -> None:
        """Counts the message that is with the sender, once; for who holds the lock."""
        if self._in_hand:
            self._in_hand = False
            self._sent += sent
            self._dropped += not sent

    def _ending(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _try(self, topic: Topic, message: bytes) -> None:
        while True:
            try:
                self.deliver(topic, message)
            except Refused as cause:
                self._failed(cause, "refuses a message")
                with self._news:
                    self._done(sent=False)
                return
            except Exception as cause:  # whatever a network library raises: the stream goes on
                self.disconnect()
                if not self._away:
                    self._failed(cause, "cannot be reached; messages wait, and the oldest are dropped")
                    self._away = True
                with self._news:
                    self._news.wait_for(lambda: self._deadline, self._backoff.wait())
                    if self._deadline is not None:  # somebody waits for the end
                        self._done(sent=False)
                        self._deadline = time.monotonic()
                        return
                continue
            if self._away:
                _log.info("%s is reached again", self.place)
            self._away = False
            self._backoff.reset()
            with self._news:
                self._done(sent=True)
            return

    def _failed(self, cause: Exception, what: str) -> None:
        said = redact_within(str(cause) or type(cause).__name__, self._address)
        with self._news:
            repeated, self._error = said == self._error, said
        if not repeated:
            _log.warning("%s %s: %s", self.place, what, said)


def split_address(address: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """The parts of an address; raises SettingsError where it is none of these schemes, with the example."""
    try:
        url = urlsplit(address)
        usable = url.scheme in schemes and bool(url.hostname) and (url.port is None or url.port > 0)
        usable = usable and address.isprintable() and " " not in address and address.isascii()
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError("this is no address to publish to", expected=example, got=redact(address)[:200])
    return url
