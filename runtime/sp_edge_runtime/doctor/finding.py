"""The machine as the probes see it, and what they say of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sp_edge.engines.device import Gpu, find_gpu, l4t_release

OK, WARN, MISSING = "ok", "warn", "missing"
_TIMEOUT = 60  # seconds; a first import of TensorRT on a slow card takes some


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: of the thing.
        state: ok; warn, it works but not as well as it could; missing, it is not there or does not work.
        found: what is there.
        remedy: what to do about it on this machine.
        needed: nothing works without it.
    """

    name: str
    state: str
    found: str
    remedy: str = ""
    needed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `sp-edge doctor --json` prints it."""
        return asdict(self)


class LoadError(Exception):
    """A module is installed and cannot be imported; the text is Python's."""


def package_version(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run(command: Sequence[str]) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None


def _load(module: str, expression: str) -> str | None:
    """An expression's text with a module imported, in a process of its own: libraries that do not fit may end theirs.

    Returns:
        None where the module is not installed.

    Raises:
        LoadError: it is, and cannot be imported.
    """
    program = (
        "import sys; sys.path[:] = sys.argv[3:]\n"
        "import importlib, importlib.util\n"
        "if importlib.util.find_spec(sys.argv[1].partition('.')[0]) is None: sys.exit(86)\n"
        "m = importlib.import_module(sys.argv[1])\n"
        "print(); print(eval(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, module, expression, *sys.path]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as cause:
        raise LoadError(f"no answer within {_TIMEOUT} s") from cause
    if ran.returncode == 86:
        return None
    if ran.returncode != 0:
        raise LoadError((ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1][:300])
    return ran.stdout.strip()


@dataclass(frozen=True)
class Host:
    """The machine as the probes see it; tests put a recorded one in its place.

    Attributes:
        root: of the file system.
        version: an installed package's version, or None.
        requires: what sp-edge's package says that it needs, as in pyproject.toml.
        load: see `_load`.
        run: see `_run`.
        gpu: the first NVIDIA GPU; BackendError where none can be used.
        python: this interpreter's version.
        prefix: of its environment.
        environment: its variables.
        usable: whether this user may open a file for reading and writing.
    """

    root: Path = Path("/")
    version: Callable[[str], str | None] = package_version
    requires: tuple[str, ...] = field(default_factory=lambda: tuple(metadata.requires("sp-edge") or ()))
    load: Callable[[str, str], str | None] = _load
    run: Callable[[Sequence[str]], str | None] = _run
    gpu: Callable[[], Gpu] = find_gpu
    python: tuple[int, ...] = sys.version_info[:3]
    prefix: Path = Path(sys.prefix)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    usable: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)

    @property
    def l4t(self) -> tuple[int, ...]:
        """Release of Linux for Tegra, such as (36, 4, 3); empty where this is no Jetson."""
        release = l4t_release(self.root)
        return tuple(int(part) for part in release.split(".")) if release else ()
