"""A real broker on loopback for the tests of what is published over MQTT."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from threads import PATIENCE


class Listener:
    """Hears all that is published; `done` once a message came on the topic `last`. It finds a broker again that was away."""

    def __init__(self, port: int, heard: Callable[[str, bytes, bool], object], last: str = "") -> None:
        from paho.mqtt import client as paho

        self.subscribed, self.done = threading.Event(), threading.Event()

        def message(_client: Any, _data: Any, one: Any) -> None:
            heard(one.topic, one.payload, one.retain)
            if one.topic == last:
                self.done.set()

        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = message
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(PATIENCE)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Broker:
    """Mosquitto on loopback, once it is started, and who listens to all that is published there. It keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        mosquitto = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
        if not mosquitto:
            pytest.skip("mosquitto, a broker, is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "broker.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.command = [mosquitto, "-c", str(folder / "broker.conf")]
        self.got: list[tuple[str, bytes, bool]] = []
        self.listener: Listener | None = None
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)

    def answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def listen(self) -> None:
        self.listener = Listener(self.port, lambda *message: self.got.append(message))

    def said(self, topic: str) -> list[bytes]:
        """What was published to a topic, in order."""
        return [payload for to, payload, _ in self.got if to == topic]

    def kept(self) -> dict[str, bytes]:
        """What somebody who comes now is told: topic -> payload of the retained messages."""
        found: dict[str, bytes] = {}
        with Listener(self.port, lambda topic, payload, _: found.update({topic: payload}), "last word") as late:
            late.client.publish("last word", b"", qos=1)
            assert late.done.wait(PATIENCE)
        return {topic: payload for topic, payload in found.items() if topic != "last word"}

    def stop(self) -> None:
        if self.listener:
            self.listener.close()
        self.end()

    def end(self) -> None:
        """As a machine that is switched off: without a farewell."""
        if self.running is not None:
            self.running.kill()
            self.running.wait(PATIENCE)
            self.running = None
