"""Sends results over the network, to an MQTT broker or a web address, without ever making recognition wait."""

from __future__ import annotations

import base64
import http.client
import logging
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from sp_edge.errors import MissingExtraError, SettingsError
from sp_edge.files import json_text
from sp_edge_runtime.sources.address import redact, redact_within
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult, StreamEvent
from sp_edge_runtime.streams.summary import Delivery

Published = Literal["all", "frames", "events"]
Topic = Literal["frames", "events"]

ROOM = {"events": 1000, "frames": 64}  # messages that wait; where there are more, the oldest is dropped
LINGER = 2.0  # seconds at the end in which what waits is still sent
TIMEOUT = 5.0  # seconds for a connection and for an answer
_log = logging.getLogger("sp_edge_runtime")


class Refused(Exception):  # noqa: N818 - no error of the user's
    """The place took the message and does not want it; sending it again would not help."""


class Publisher(ABC):
    """A sink whose messages wait in a queue of bounded length for a thread that sends them.

    A place that is slow or away costs messages and nothing else: the oldest are dropped and counted, frames before events. An
    attempt that fails is made again after a pause that grows to half a minute.

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
        self._waiting: dict[Topic, deque[bytes]] = {"events": deque(), "frames": deque()}
        self._news = threading.Condition()
        self._deadline: float | None = None  # of the end
        self._sent = self._dropped = 0
        self._error, self._away = "", False
        self._sender = threading.Thread(target=self._send, name=f"sender to {self.place}", daemon=True)
        self._sender.start()

    def write(self, result: FrameResult) -> None:
        """Queues the frame's result."""
        self._queue("frames", result.to_json())

    def event(self, event: StreamEvent) -> None:
        """Queues the event; events are sent before frames that wait."""
        self._queue("events", event.to_json())

    def close(self) -> None:
        """Gives what waits another two seconds; a second call does nothing."""
        with self._news:
            self._deadline = self._deadline or time.monotonic() + LINGER
            self._news.notify_all()
        self._sender.join(LINGER + TIMEOUT + 1)
        with self._news:
            for queue in self._waiting.values():
                self._dropped += len(queue)
                queue.clear()

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

    def _queue(self, topic: Topic, value: dict[str, Any]) -> None:
        if self._published not in ("all", topic):
            return
        message = json_text(value).encode()
        with self._news:
            queue = self._waiting[topic]
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
                    return topic, queue.popleft()
            return None

    def _ending(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _try(self, topic: Topic, message: bytes) -> None:
        while True:
            try:
                self.deliver(topic, message)
            except Refused as cause:
                self._failed(cause, "refuses a message")
                with self._news:
                    self._dropped += 1
                return
            except Exception as cause:  # whatever a network library raises: the stream goes on
                self.disconnect()
                if not self._away:
                    self._failed(cause, "is not to be reached; messages wait, the oldest are dropped")
                    self._away = True
                with self._news:
                    self._news.wait_for(lambda: self._deadline, self._backoff.wait())
                    if self._deadline is not None:  # somebody waits for the end
                        self._dropped += 1
                        self._deadline = time.monotonic()
                        return
                continue
            if self._away:
                _log.warning("%s is reached again", self.place)
            self._away = False
            self._backoff.reset()
            with self._news:
                self._sent += 1
            return

    def _failed(self, cause: Exception, what: str) -> None:
        said = redact_within(str(cause) or type(cause).__name__, self._address)
        with self._news:
            repeated, self._error = said == self._error, said
        if not repeated:
            _log.warning("%s %s: %s", self.place, what, said)


class WebhookSink(Publisher):
    """Posts each message as a JSON object to a web address.

    An answer of 2xx takes it; 408, 429 and 5xx mean later; any other refuses it.

    Args:
        address: http:// or https://, with user and password where it needs them (sent as basic authentication).
        published: which messages to send.
        backoff: the pauses between attempts.

    Raises:
        SettingsError: no such address.
    """

    def __init__(self, address: str, published: Published = "all", backoff: Backoff | None = None) -> None:
        url = _split(address, ("http", "https"), "https://host/path")
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "sp-edge"}
        if url.username is not None:
            login = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        self._host, self._port, self._secure = url.hostname or "", url.port, url.scheme == "https"
        self._connection: http.client.HTTPConnection | None = None
        host = url.netloc.rpartition("@")[2]
        # Of many services the path is the key: whoever knows it may post.
        super().__init__(address, published, backoff, place=f"{url.scheme}://{host}/***")

    def deliver(self, topic: Topic, message: bytes) -> None:
        """Posts one message; the topic is told by the object's key `event`."""
        kept = self._connection is not None
        try:
            status = self._post(message)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not kept:
                raise
            self.disconnect()  # a server may close a connection that it kept: that is no failure yet
            status = self._post(message)
        if status in (408, 429) or status >= 500:
            raise OSError(f"it answers with status {status}")
        if not 200 <= status < 300:
            raise Refused(f"it answers with status {status}")

    def disconnect(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _post(self, message: bytes) -> int:
        if self._connection is None:
            if self._secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=context)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        self._connection.request("POST", self._path, message, self._headers)
        response = self._connection.getresponse()
        response.read(65536)
        if not response.isclosed():
            self.disconnect()  # an answer without end
        return response.status


class MqttSink(Publisher):
    """Publishes to an MQTT broker: frames under TOPIC/frames with quality of service 0, events under TOPIC/events with 1.

    Args:
        address: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; the topic is 'sp-edge' by default.
        published: which messages to send.
        backoff: the pauses between attempts.

    Raises:
        SettingsError: no such address.
        MissingExtraError: the package paho-mqtt is not installed.
    """

    def __init__(self, address: str, published: Published = "all", backoff: Backoff | None = None) -> None:
        url = _split(address, ("mqtt", "mqtts"), "mqtt://host/topic")
        topic = unquote(url.path.strip("/")) or "sp-edge"
        if any(sign in topic for sign in "+#\0"):
            raise SettingsError("no messages can be published under such a topic", expected="no +, # or NUL", got=repr(topic))
        try:
            from paho.mqtt import client, enums
        except ModuleNotFoundError as cause:
            raise MissingExtraError("publishing over MQTT needs a client", package="paho-mqtt", extra="mqtt") from cause
        self._url, self._topic = url, topic
        self._new_client = partial(client.Client, enums.CallbackAPIVersion.VERSION2)
        self._client: Any = None
        super().__init__(address, published, backoff)

    def deliver(self, topic: Topic, message: bytes) -> None:
        """Publishes one message; of an event the broker's acknowledgement is waited for."""
        if self._client is None:
            self._connect()
        quality = 1 if topic == "events" else 0
        published = self._client.publish(f"{self._topic}/{topic}", message, qos=quality)
        published.wait_for_publish(TIMEOUT)
        if not published.is_published():
            raise OSError("the broker does not answer")

    def disconnect(self) -> None:
        """Leaves the broker and ends the client's thread. A new client begins with nothing that an old one had left."""
        client, self._client = self._client, None
        if client:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> None:
        connected, answers = threading.Event(), []

        def answered(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            answers.append(reason)
            connected.set()

        client = self._client = self._new_client()
        client.on_connect = answered
        client.connect_timeout = TIMEOUT
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


def _split(address: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    try:
        url = urlsplit(address)
        usable = url.scheme in schemes and bool(url.hostname) and (url.port is None or url.port > 0)
        usable = usable and address.isprintable() and " " not in address and address.isascii()
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError("this is no address to publish to", expected=example, got=redact(address)[:200])
    return url
