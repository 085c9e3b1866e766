from __future__ import annotations

import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

import toy
from page_site import EVERYWHERE, Opened, Showing, Site
from sp_edge.errors import SettingsError
from sp_edge_runtime.page import guard
from sp_edge_runtime.page.app import ASSETS
from sp_edge_runtime.page.options import PageOptions


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.0.7", "localhost.evil.example", "", "[::"])
def test_a_page_of_this_machine_alone_has_no_other_name(site: Site, host: str) -> None:
    assert site.get("/api/state", Host=host).status == 421
    assert site.get("/", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:8000", "LOCALHOST"])
def test_what_this_machine_is_called(site: Site, host: str) -> None:
    assert site.get("/api/state", Host=host).status == 200


def test_another_site_can_neither_change_nor_show_anything(site: Site) -> None:
    taught = {"name": "red"}
    assert site.ask("POST", "/api/teach", taught, Origin="https://evil.example").status == 403
    for origin in ("null", "", "http://[", f"http://{site.host}.evil.example", f"http://evil.example/{site.host}"):
        assert site.ask("POST", "/api/teach", taught, Origin=origin).status == 403
    assert site.ask("POST", "/api/teach", taught, Sec_Fetch_Site="cross-site").status == 403
    assert site.get("/api/sources/0/live.mjpeg", Sec_Fetch_Site="cross-site").status == 403
    assert site.get("/api/state", Sec_Fetch_Site="same-site").status == 403
    assert site.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200, "a link from elsewhere"
    assert site.classes() == {}
    assert site.ask("POST", "/api/teach", taught, Origin=f"http://{site.host}", Sec_Fetch_Site="same-origin").status == 200


def test_every_answer_has_the_headers(site: Site) -> None:
    for answer in (site.get("/"), site.get("/assets/app.js"), site.get("/nothing"), site.get("/", Host="evil.example")):
        for name, value in guard.HEADERS.items():
            assert answer.headers[name] == value
    assert "unsafe" not in guard.HEADERS["content-security-policy"]
    assert "server" not in site.get("/").headers


def test_the_page_asks_no_other_host_and_has_no_inline_code(site: Site) -> None:
    page = site.get("/").body.decode()
    assets = set(re.findall(r'"/(assets/[^"]+)"', page))
    assert assets
    for name in assets | {f"assets/{one.name}" for one in ASSETS.iterdir() if one.is_file()}:
        answer = site.get(f"/{name}")
        assert answer.status == 200
        found = re.findall(r"(?:https?:)?//[\w.]+\.\w+", re.sub(r"^\s*//.*$", "", answer.body.decode(), flags=re.MULTILINE))
        assert set(found) <= {"http://www.w3.org"}, "the namespace of SVG"
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", page)
    assert site.get("/assets/..%2fapp.py").status == 404
    assert site.get("/assets/nothing.js").status == 404


def test_another_address_asks_for_a_token(opened: Opened) -> None:
    site = opened(host=EVERYWHERE)
    site.address = site.address.replace(site.host, f"127.0.0.1:{site.host.rsplit(':')[-1]}")
    assert len(site.token) > 40
    for path in ("/api/state", "/api/sources/0/frame.jpg", "/api/events", "/api/openapi.json", "/nothing"):
        assert site.get(path).status == 401
    assert site.ask("POST", "/api/teach", {"name": "red"}).status == 401
    assert site.get("/").status == site.get("/assets/app.js").status == 200, "they hold no secret"
    assert site.get("/health").status in (200, 503)
    assert site.get("/api/state", Authorization="Bearer wrong").status == 401
    assert site.get("/api/state", Cookie=f"{guard.COOKIE}=wrong").status == 401
    assert site.get("/api/state", Cookie='"\\').status == 401
    assert site.get("/api/state", Authorization=f"Bearer {site.token}").status == 200
    assert site.ask("POST", "/api/login", {"token": "wrong"}).status == 401
    login = site.ask("POST", "/api/login", {"token": site.token})
    cookie = login.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert site.get("/api/state", Cookie=cookie.partition(";")[0]).status == 200
    assert site.get("/api/state", Cookie=cookie.partition(";")[0], Host="192.168.7.7:80").status == 200
    assert site.get("/api/state", Cookie=cookie.partition(";")[0], Host="evil.example").status == 421
    assert site.get("/", Host=f"{socket.gethostname()}:80").status == 200


def test_another_name_can_be_allowed(opened: Opened) -> None:
    site = opened([], allow_host="Camera.Example")
    assert site.get("/", Host="camera.example").status == 200
    assert site.get("/", Host="other.example").status == 421


def test_the_token_may_live_in_a_file(opened: Opened, tmp_path: Path) -> None:
    file = tmp_path / "token"
    first = opened([], host=EVERYWHERE, token_file=str(file))
    assert first.token == "", "what holds it need not be told, and a log never"
    token = file.read_text().strip()
    assert len(token) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    second = opened([], host=EVERYWHERE, token_file=str(file))
    second.address = f"http://127.0.0.1:{second.host.rsplit(':')[-1]}/"
    assert second.get("/api/state", Authorization=f"Bearer {token}").status == 200
    file.write_text("short\n")
    (failure,) = opened([], host=EVERYWHERE, token_file=str(file)).failed
    assert isinstance(failure, SettingsError)
    assert "short" not in str(failure)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_makes_it_https(opened: Opened, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    site = opened([], host=EVERYWHERE, cert=str(cert), key=str(key))
    assert site.address.startswith("https://")
    login = site.ask("POST", "/api/login", {"token": site.token}, Origin=f"https://{site.host}")
    assert "Secure" in login.headers["set-cookie"].split("; ")
    assert site.get("/api/state", Cookie=login.headers["set-cookie"].partition(";")[0]).status == 200


def test_what_is_too_large_is_refused_before_it_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.ask("POST", "/api/teach", b"", Content_Length=str(guard.SMALL + 1)).status == 413
    monkeypatch.setitem(guard.LARGE, "/api/classify", 1000)
    with socket.create_connection(tuple(site.host.split(":")), timeout=10) as raw:  # type: ignore[arg-type]
        raw.sendall(
            b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n"
            + b"x" * 2000
            + b"\r\n"
        )
        assert raw.recv(64).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SECONDS", 0.2)
    with socket.create_connection(tuple(site.host.split(":")), timeout=10) as raw:  # type: ignore[arg-type]
        raw.sendall(b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
        assert raw.recv(64).startswith(b"HTTP/1.1 408")


def test_more_than_may_be_done_is_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened([])
    monkeypatch.setattr(guard, "VIEWERS", 0)
    answer = site.get("/api/events")
    assert answer.status == 429
    assert answer.headers["retry-after"] == "1"
    monkeypatch.setattr(guard, "AT_ONCE", 0)
    assert site.get("/api/state").status == 429


def test_a_taken_port_and_a_strange_address_are_told(opened: Opened) -> None:
    site = opened([])
    with pytest.raises(SettingsError, match="out of range"):
        PageOptions(port=70000)
    with pytest.raises(SettingsError, match="cert"):
        PageOptions(cert="cert.pem")
    (failure,) = opened([], host="203.0.113.7").failed
    assert "cannot listen" in str(failure)
    (failure,) = opened([], cert="nothing.pem", key="nothing.pem").failed
    assert "certificate" in str(failure)
    assert site.get("/health").status == 200


def test_credentials_of_a_source_are_nowhere(opened: Opened, log: pytest.LogCaptureFixture) -> None:
    site = opened([Showing("rtsp://***@door/1")])
    site.recognizer.enroll("red", toy.picture("red"))
    assert site.get("/api/state").json["sources"][0]["name"] == "rtsp://***@door/1"
    assert not any(site.host in message for message in log.messages), "nor who asked what"
