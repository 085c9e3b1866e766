"""Posts results to a web address."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import unquote

from sp_edge_runtime.sinks.publisher import TIMEOUT, Published, Publisher, Refused, Topic, split_address
from sp_edge_runtime.sources.live import Backoff


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
        url = split_address(address, ("http", "https"), "https://host/path")
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
