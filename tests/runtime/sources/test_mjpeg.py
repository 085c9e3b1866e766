"""Pictures over HTTP: each as soon as it is there, never one that was cut; a still picture is asked for again."""

import io
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.mjpeg import Parts, capture_pictures, jpeg_end
from sp_edge_runtime.sources.request import CaptureRequest

Answer = Callable[[socket.socket, bytes], None]


def jpeg(value: int, *, thumbnail: bytes = b"") -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(value).integers(0, 20, (48, 64, 3), np.uint8)
    Image.fromarray(noise + np.uint8(value)).save(out, "JPEG", quality=90)
    content = out.getvalue()
    if thumbnail:
        content = content[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + content[2:]
    return content


FRAMES = [jpeg(value) for value in (20, 80, 140, 200)]
OK = b"HTTP/1.1 200 OK\r\n"
MULTIPART = OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def part(content: bytes, *, length: bool = True) -> bytes:
    told = b"Content-Length: %d\r\n" % len(content) if length else b""
    return b"--frame\r\nContent-Type: image/jpeg\r\n" + told + b"\r\n" + content + b"\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a camera: each question's connection is handed to the function, with what was asked."""
    ends: list[Callable[[], None]] = []

    def start(answer: Answer, tls: ssl.SSLContext | None = None) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        listening = tls.wrap_socket(listening, server_side=True) if tls else listening

        def work() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    answer(connection, connection.recv(4096))

        thread = threading.Thread(target=work)
        thread.start()

        def end() -> None:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()

        ends.append(end)
        return f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}/cam"

    yield start
    for end in ends:
        end()


def captured(address: str, **options: object) -> Iterator[object]:
    opened = capture_pictures(CaptureRequest("stream", address, timeout=5.0, **options))  # type: ignore[arg-type]
    assert opened is not None
    return opened[1]


def level(frame: object) -> int:
    """Which of the pictures it is, by its brightness."""
    return int(np.abs(np.array([20, 80, 140, 200]) + 9.5 - frame.image_rgb.mean()).argmin())  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [True, False])
def test_a_picture_is_handed_on_before_the_next_one_comes(length: bool, serve: Callable[[Answer], str]) -> None:
    seen = threading.Semaphore(0)

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(MULTIPART)
        for content in FRAMES:
            connection.sendall(part(content, length=length))
            assert seen.acquire(timeout=10)  # else the reader waits for what comes after the picture

    frames = captured(serve(answer))
    for number in range(len(FRAMES)):
        frame = next(frames)
        assert level(frame) == number
        seen.release()
    with pytest.raises(SourceError, match="broke off"):
        next(frames)


@pytest.mark.parametrize("length", [True, False])
def test_a_picture_that_was_cut_is_left_out_and_counted(length: bool, serve: Callable[[Answer], str]) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        cut = FRAMES[1][: len(FRAMES[1]) // 2]
        connection.sendall(MULTIPART + b"".join(part(one, length=length) for one in (FRAMES[0], cut, *FRAMES[2:])))

    frames = list(itertools.islice(captured(serve(answer)), 3))
    assert [level(frame) for frame in frames] == [0, 2, 3]
    assert [(frame.number, frame.damaged) for frame in frames] == [(0, 0), (2, 1), (3, 1)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("missing", [12, 30, 60, 500])
def test_a_picture_that_is_shorter_than_told_ends_at_the_boundary(missing: int, serve: Callable[[Answer], str]) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        cut = part(FRAMES[1]).replace(FRAMES[1], FRAMES[1][:-missing])
        connection.sendall(MULTIPART + part(FRAMES[0]) + cut + part(FRAMES[2]) + part(FRAMES[3]))

    frames = list(itertools.islice(captured(serve(answer)), 3))
    assert [level(frame) for frame in frames] == [0, 2, 3], "the next one is whole"
    assert frames[-1].damaged == 1  # type: ignore[attr-defined]


def test_a_still_picture_is_asked_for_again(serve: Callable[[Answer], str]) -> None:
    contents = iter(FRAMES)

    def answer(connection: socket.socket, _: bytes) -> None:
        content = next(contents)
        connection.sendall(OK + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    with open_source(serve(answer)) as source:
        assert source.fps == 2
        assert [level(frame) for frame in itertools.islice(source, 3)] == [0, 1, 2]
        assert source.restarts == 0


def test_what_the_stride_leaves_out_is_a_sign_of_life(serve: Callable[[Answer], str]) -> None:
    frames = captured(serve(lambda c, _: c.sendall(MULTIPART + b"".join(map(part, FRAMES)))), stride=3)
    assert [frame and frame.number for frame in itertools.islice(frames, 4)] == [0, None, None, 3]  # type: ignore[attr-defined]


def test_of_what_the_stride_leaves_out_none_is_called_damaged(serve: Callable[[Answer], str]) -> None:
    cut = FRAMES[1][: len(FRAMES[1]) // 2]
    contents = (FRAMES[0], cut, FRAMES[1], FRAMES[2], cut, cut, FRAMES[3])
    frames = captured(serve(lambda c, _: c.sendall(MULTIPART + b"".join(map(part, contents)))), stride=2)
    seen = [frame and (frame.number, frame.damaged) for frame in itertools.islice(frames, 6)]  # type: ignore[attr-defined]
    assert seen == [(0, 0), None, (2, 0), None, None, (6, 1)]


def test_user_and_password_are_sent_when_they_are_asked_for(serve: Callable[[Answer], str]) -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket, question: bytes) -> None:
        asked.append(question)
        if b"Authorization: Basic dXNlcjpwQHNz" in question:  # user:p@ss
            connection.sendall(MULTIPART + part(FRAMES[0]))
        else:
            connection.sendall(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="cam"\r\nContent-Length: 0\r\n\r\n')

    address = serve(answer).replace("http://", "http://user:p%40ss@")
    assert level(next(captured(address))) == 0
    assert b"Authorization" not in asked[0]


def test_a_camera_has_made_its_certificate_for_itself(serve: Callable[..., str], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=camera"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    assert level(next(captured(serve(lambda c, _: c.sendall(MULTIPART + part(FRAMES[1])), tls)))) == 1


def test_an_answer_that_is_an_error(serve: Callable[[Answer], str]) -> None:
    address = serve(lambda c, _: c.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) + "?token=secret"
    with pytest.raises(SourceError, match="cannot open") as caught:
        captured(address)
    assert "HTTP 404" in caught.value.got
    assert "secret" not in str(caught.value)


def test_what_is_no_picture_is_for_ffmpeg(serve: Callable[[Answer], str]) -> None:
    address = serve(lambda c, _: c.sendall(OK + b"Content-Type: video/mp4\r\nContent-Length: 0\r\n\r\n"))
    assert capture_pictures(CaptureRequest("stream", address)) is None


@pytest.mark.parametrize("boundary", ["frame", "--frame", None])
def test_boundaries_as_cameras_write_them(boundary: str | None) -> None:
    content = io.BytesIO(b"\r\n" + b"".join(part(one, length=False) for one in FRAMES) + b"--frame--\r\n")
    assert list(Parts(lambda _: content.read(7), boundary)) == FRAMES


def test_nothing_is_waited_for_behind_the_last_boundary() -> None:
    content = [part(FRAMES[0]) + b"--frame--\r\n"]
    parts = Parts(lambda _: content.pop(), "frame")
    assert next(parts) == FRAMES[0]
    with pytest.raises(StopIteration):
        next(parts)


def test_an_answer_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ValueError, match="no picture between"):
        next(Parts(lambda _: b"nothing\n" * 100, "frame"))


@pytest.mark.parametrize("lines", [64, 65])
def test_sixty_four_lines_stand_before_a_picture_at_most(lines: int) -> None:
    headers = b"".join(b"X-%d: 1\r\n" % number for number in range(lines - 2))
    parts = Parts(io.BytesIO(b"--frame\r\n" + headers + b"\r\n" + FRAMES[0]).read, "frame")
    if lines > 64:
        with pytest.raises(ValueError, match="no picture between"):
            next(parts)
    else:
        assert next(parts) == FRAMES[0]


def test_a_picture_without_an_end_does_not_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="more than 67,108,864 bytes"):
        next(Parts(lambda _: bytes(1 << 23), "frame"))


@pytest.mark.parametrize("told", [b"content-LENGTH :  %d ", b"Content-Length: many, not %d", b"Content-Length: -%d"])
def test_lengths_as_cameras_write_them(told: bytes) -> None:
    parts = [b"--frame\r\n" + told % len(one) + b"\r\nX: a:b\r\n\r\n" + one + b"\r\n" for one in FRAMES]
    assert list(Parts(io.BytesIO(b"".join(parts)).read, "frame")) == FRAMES


def test_what_is_no_jpeg_ends_at_the_boundary() -> None:
    content = b"--frame\r\nContent-Type: image/png\r\n\r\n" + b"\x89PNG" + b"\r\n--frame\r\nX: 1\r\n\r\nsecond\r\n--frame--\r\n"
    assert list(Parts(io.BytesIO(content).read, "frame")) == [b"\x89PNG", b"second"]


def test_an_answer_that_is_no_http(serve: Callable[[Answer], str]) -> None:
    with pytest.raises(SourceError, match="cannot open") as caught:
        captured(serve(lambda c, _: c.sendall(b"RTSP/1.0 200 OK\r\n\r\n")))
    assert "RTSP" in caught.value.got


def test_an_answer_in_chunks_of_which_the_last_is_cut(serve: Callable[[Answer], str]) -> None:
    chunks = b"%x\r\n%b\r\n" % (len(part(FRAMES[0])), part(FRAMES[0])) + b"999\r\n--frame"
    frames = captured(serve(lambda c, _: c.sendall(MULTIPART[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)))
    assert level(next(frames)) == 0
    with pytest.raises(SourceError, match="broke off"):
        next(frames)


def test_an_address_that_cannot_be_asked() -> None:
    with pytest.raises(SourceError, match="cannot open"):
        captured("http://127.0.0.1:port/cam")


def test_a_part_that_is_empty_for_the_boundary_at_once(serve: Callable[[Answer], str]) -> None:
    empty = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n\r\n"
    frames = captured(serve(lambda c, _: c.sendall(MULTIPART + part(FRAMES[0]) + empty + part(FRAMES[2]))))
    assert [level(frame) for frame in itertools.islice(frames, 2)] == [0, 2]


def test_bytes_that_fill_up_to_a_marker_and_markers_without_a_length() -> None:
    filled = b"\xff\xd8\xff\xff\xff\xe0\x00\x04ab\xff\xd0\xff\xd7\xff\x01\xff\x00\xff\xff\xd9"
    assert jpeg_end(filled + b"rest") == len(filled)
    for length in (4, 6, 8, 258):
        segment = b"\xff\xcf" + length.to_bytes(2, "big") + b"\xff\xd9" * (length // 2 - 1)
        whole = b"\xff\xd8" + segment + b"\xff\xd9"
        assert jpeg_end(whole + b"\xff\xd9") == len(whole), "what looks like an end stands in a segment"


def test_where_a_jpeg_ends() -> None:
    small = jpeg(200)
    whole = jpeg(20, thumbnail=small)
    assert jpeg_end(whole) == len(whole)
    assert jpeg_end(whole + jpeg(80)) == len(whole)
    assert jpeg_end(whole[:-1]) is None
    assert jpeg_end(whole[:-40] + jpeg(80)) == len(whole) - 40
    assert jpeg_end(b"") is jpeg_end(b"\xff\xd8\xff") is jpeg_end(b"no") is None
