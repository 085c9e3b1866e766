"""Publishes results to an MQTT broker."""

from __future__ import annotations

import ssl
import threading
from functools import partial
from typing import Any
from urllib.parse import unquote

from sp_edge.errors import MissingExtraError, SettingsError
from sp_edge_runtime.sinks.publisher import TIMEOUT, Published, Publisher, Topic, split_address
from sp_edge_runtime.sources.live import Backoff

ONLINE, OFFLINE = b"online", b"offline"


class MqttSink(Publisher):
    """Publishes to an MQTT broker: frames under TOPIC/frames with quality of service 0, events under TOPIC/events with 1.

    TOPIC/status is 'online' or 'offline', retained for who comes later. The broker itself says 'offline' of a publisher that
    was killed, lost its power or its network: that is the client's will.

    Args:
        address: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; the topic is 'sp-edge' by default.
        published: which messages to send.
        backoff: the pauses between attempts.

    Raises:
        SettingsError: no such address.
        MissingExtraError: the package paho-mqtt is not installed.
    """

    def __init__(self, address: str, published: Published = "all", backoff: Backoff | None = None) -> None:
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
            if client.is_connected():  # of who takes leave, the will is forgotten
                client.publish(self._status, OFFLINE, retain=True)
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
        client.publish(self._status, ONLINE, qos=1, retain=True)
