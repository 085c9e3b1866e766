"""Serves the page, with the stream in a thread beside it, until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn

from sp_edge.errors import SettingsError, SpEdgeError
from sp_edge_runtime.page.app import make_app
from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.regions import Regions
from sp_edge_runtime.page.watch import Watch
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.harvest import Harvest
from sp_edge_runtime.sources.address import distinct
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import parts_of
from sp_edge_runtime.streams.result import Sink
from sp_edge_runtime.streams.stream import run_stream

USUAL_FPS = 25.0  # of a video that does not say its own
PICTURES_FPS = 1.0  # of a folder of pictures, so that a person can look
CONNECTIONS = 256
LEAST_TOKEN = 20  # characters
_log = logging.getLogger("sp_edge_runtime")


def serve(
    recognizer: Recognizer,
    sources: Sequence[Source],
    options: PageOptions,
    *,
    stream: StreamOptions = StreamOptions(),
    sinks: Sequence[Sink] = (),
    model: str = "",
    harvest: Harvest | None = None,
    regions: Path | None = None,
    ready: Callable[[str, Callable[[], None]], None] = lambda _address, _stop: None,
) -> None:
    """Serves the page until SIGINT, SIGTERM or SIGHUP comes, or the stream fails. Signals need the main thread.

    Args:
        recognizer: which recognizes, and is taught.
        sources: of frames, or none; they stay open.
        options: where the page is to be had.
        stream: how frames are recognized. A video is played at its own pace unless `max_fps` says another.
        sinks: where results go, besides the page.
        model: the bundle's name, as the page shows it.
        regions: the file that keeps what is looked at of each source.
        harvest: keeps frames that are worth a look; by default one in memory alone.
        ready: is called with the page's address once it can be opened, with the token unless a file holds it; and with what
            stops the server.

    Raises:
        SettingsError: the address, the certificate or the token's file cannot be used.
        BackendError: the inference engine failed.
    """
    token = None if options.local else _token(options.token_file)
    watch = Watch(sources)
    given = parts_of(distinct(one.name for one in sources), stream.regions, stream.named_regions)
    page = Page(
        recognizer,
        watch,
        Regions(given, len(sources), regions, watch.follow),
        model,
        token,
        secure=options.cert is not None,
        harvest=harvest or Harvest(),
        sinks=sinks,
    )
    app = make_app(page, allow_host=options.allow_host)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", proxy_headers=False,
        limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=2, timeout_keep_alive=30,
        ssl_certfile=options.cert, ssl_keyfile=options.key,
    )  # fmt: skip
    try:
        config.load()
    except (OSError, ssl.SSLError) as cause:
        raise SettingsError("the certificate cannot be used", expected="--cert and --key, PEM", got=str(cause)) from cause
    with _listening(options) as listening:
        server = _Server(config, page)
        with _streaming(page, sources, paced(stream, sources), server) as failed:
            ready(_address(options, listening.getsockname()[1], None if options.token_file else token), server.end)
            server.run(sockets=[listening])
            page.closing = True
        if failed:
            raise failed[0]


def paced(options: StreamOptions, sources: Sequence[Source]) -> StreamOptions:
    """The options with the pace at which a person watches files: a video's own, and of pictures one a second."""
    files = [source for source in sources if not source.live]
    if options.max_fps is not None or not files:
        return options
    return replace(options, max_fps=max((one.fps or USUAL_FPS) if one.timed else PICTURES_FPS for one in files))


class _Server(uvicorn.Server):
    """uvicorn's server; signals end it as any other end, and the streams of its viewers with it."""

    def __init__(self, config: uvicorn.Config, page: Page) -> None:
        super().__init__(config)
        self._page = page

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.end()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {kind: signal.getsignal(kind) for kind in kinds}
        for kind in kinds:
            if before[kind] is not signal.SIG_IGN:  # as nohup leaves SIGHUP
                signal.signal(kind, stop)
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def end(self) -> None:
        """Stops serving; any thread may call it."""
        self._page.closing = True
        self.should_exit = True


@contextmanager
def _streaming(page: Page, sources: Sequence[Source], options: StreamOptions, server: _Server) -> Iterator[list[BaseException]]:
    """Runs the stream beside what follows; gives a list of what broke it, if anything of ours did."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            sinks: list[Sink] = [page.watch, page.harvest, *page.sinks]
            run_stream(page.recognizer, sources, sinks, options, parts=lambda: tuple(page.regions.parts.values()))
        except SpEdgeError as error:
            page.watch.failure = error.what
            if error.exit_code == 1:  # the engine: no use in going on
                failed.append(error)
                server.end()
            else:
                _log.warning("the stream ended: %s", error)
        except BaseException as error:
            page.watch.failure = "the stream failed"
            failed.append(error)
            server.end()

    thread = threading.Thread(target=run, name="stream", daemon=True)
    if sources:
        thread.start()
    try:
        yield failed
    finally:
        for source in sources:
            source.close()
        if sources:
            thread.join()


def _token(file: str | None) -> str:
    """The token that requests must bring."""
    if file is None:
        return secrets.token_urlsafe(32)
    path = Path(file)
    try:
        if path.exists():
            token = path.read_text("ascii").strip()
            if len(token) < LEAST_TOKEN or not token.isprintable():
                expected = f"one line of {LEAST_TOKEN} characters or more"
                raise SettingsError(f"{file} holds no token", expected=expected, next_step="remove the file: it is made anew")
            return token
        token = secrets.token_urlsafe(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(token + "\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise SettingsError(
            f"the token's file {file} cannot be used", expected="a file to read or make", got=str(cause)
        ) from cause
    return token


@contextmanager
def _listening(options: PageOptions) -> Iterator[socket.socket]:
    """A socket at the address, which is told at once if it cannot be had."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=CONNECTIONS)
        # Connections inherit it. asyncio sets it on sockets of its own alone, and each answer would come 40 ms late without:
        # its body would wait until the client has acknowledged its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as cause:
        raise SettingsError(
            f"cannot listen on {options.host}, port {options.port}",
            expected="an address of this device, and a free port",
            got=cause.strerror or str(cause),
            next_step="--port 0 takes a free one",
        ) from cause
    with contextlib.closing(listening):
        yield listening


def _address(options: PageOptions, port: int, token: str | None) -> str:
    """Where a person opens the page."""
    host = _reached_at() if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104 - it is compared, not listened on
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if options.cert else 'http'}://{shown}:{port}/" + (f"#token={token}" if token else "")


def _reached_at() -> str:
    """This device's address on its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
            return str(asked.getsockname()[0])
        except OSError:
            return socket.gethostname()
