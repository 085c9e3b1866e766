"""A real Triton server for tests, from the folder that `tests/triton-server` made."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import pytest
import tritonclient.grpc

from threads import PATIENCE, until


class TritonServer:
    """The repository on two free ports of this machine; as `triton_stand_in.Server`."""

    def __init__(self, path: Path, *, explicit: bool = False) -> None:
        folder = os.environ.get("SP_EDGE_TRITON")
        if not folder:
            pytest.skip("SP_EDGE_TRITON names no folder with a Triton server; tests/triton-server makes one")
        package = Path(folder) / "package"
        with socket.socket() as grpc, socket.socket() as http:
            for one in (grpc, http):
                one.bind(("127.0.0.1", 0))
            ports = {"grpc": grpc.getsockname()[1], "http": http.getsockname()[1]}
        self.addresses = {protocol: f"127.0.0.1:{port}" for protocol, port in ports.items()}
        self.log = path.with_name(f"{path.name}.log")
        mode = ["--model-control-mode=explicit"] if explicit else ["--model-control-mode=poll", "--repository-poll-secs=1"]
        self._command = [
            str(package / "pytriton/tritonserver/bin/tritonserver"),
            f"--model-repository={path}",
            f"--backend-directory={folder}/backends",
            "--allow-metrics=false",
            "--exit-timeout-secs=2",
            *mode,
            *(f"--{protocol}-address=127.0.0.1" for protocol in ports),
            *(f"--{protocol}-port={port}" for protocol, port in ports.items()),
        ]
        self._environment = {
            "PATH": f"{folder}/python/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(package / "nvidia_pytriton.libs"),
        }

    def __enter__(self) -> TritonServer:
        with self.log.open("wb") as log:
            self._running = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)
        until(self._ready)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.terminate()
        self._running.wait(PATIENCE)

    def _ready(self) -> bool:
        assert self._running.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
        host, port = self.addresses["http"].split(":")  # the one that comes last
        with socket.socket() as http:
            if http.connect_ex((host, int(port))):
                return False
        with tritonclient.grpc.InferenceServerClient(self.addresses["grpc"]) as client:
            return bool(client.is_server_ready())
