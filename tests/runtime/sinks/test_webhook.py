import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from sp_edge_runtime.sinks.webhook import WebhookSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import until

QUICK = (0.001, 0.002)


def change(number: int) -> StateChange:
    return StateChange(f"camera {number}", State.RUNNING, 0.0)


class Server:
    """A web server that answers with what the test says."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], object]] = []
        self.answers: list[int] = []
        self.connections = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = server.answers.pop(0) if server.answers else 204
                if status < 300:
                    server.got.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=[0.01])
        self.thread.start()

    def close(self) -> None:
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def test_a_webhook_gets_json_over_one_connection(server: Server, result: FrameResult) -> None:
    address = f"http://me:top%20secret@127.0.0.1:{server.httpd.server_port}/hook?key=1"
    sink = WebhookSink(address)
    for number in range(3):
        sink.event(change(number))
    sink.close()
    assert [body["source"] for _, _, body in server.got] == ["camera 0", "camera 1", "camera 2"]
    path, headers, _ = server.got[0]
    assert path == "/hook?key=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic bWU6dG9wIHNlY3JldA=="
    assert server.connections == 1
    # Of many services the path is the key.
    assert sink.delivery().place == f"http://127.0.0.1:{server.httpd.server_port}/***"


def test_a_webhook_is_asked_again_later_or_never(server: Server) -> None:
    server.answers = [503, 429, 200, 400]
    sink = WebhookSink(f"http://127.0.0.1:{server.httpd.server_port}/", backoff=Backoff(*QUICK))
    sink.event(change(0))
    until(lambda: sink.delivery().sent == 1)
    sink.event(change(1))
    sink.close()
    delivery = sink.delivery()
    assert (delivery.sent, delivery.dropped, delivery.error) == (1, 1, "it answers with status 400")


def test_a_webhook_that_nobody_hears() -> None:
    sink = WebhookSink("http://127.0.0.1:9/", backoff=Backoff(*QUICK))
    sink.event(change(0))
    until(lambda: sink.delivery().error != "")
    sink.close()
    assert sink.delivery().dropped == 1
