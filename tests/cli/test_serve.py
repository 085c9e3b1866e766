"""`sp-edge serve`: the process, from its address to its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_page_is_served_until_a_signal_ends_it(place: Path, toy_video: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "sp_edge", "serve", str(toy_video), "--loop", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
            assert found
            with urllib.request.urlopen(found[1] + "api/state", timeout=30) as answer:  # noqa: S310 - our own address
                state = json.load(answer)
            assert state["sources"][0]["name"] == str(toy_video)
            process.send_signal(end)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not (place / "runs" / "2" / "classes.spbank").exists(), "nothing was taught"


def test_a_certificate_needs_its_key(place: Path, call: Call) -> None:
    assert place.is_dir()
    code, _, err = call("serve", "--cert", "cert.pem")
    assert code == 2
    assert "--cert" in err


def test_a_source_that_is_not_there_is_told(place: Path, call: Call) -> None:
    code, _, err = call("serve", place / "nothing.mp4", "--port", 0)
    assert code == 2
    assert "no source at" in err


def test_a_region_needs_its_source(place: Path, call: Call) -> None:
    assert place.is_dir()
    code, _, err = call("serve", "--port", 0, "--region", "door=0,0,0.5,1")
    assert (code, "the region 'door' is of no source" in err) == (2, True)
