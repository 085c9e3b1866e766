"""The public surface: what `sp_edge` and `sp_edge_runtime` name, with every signature, as surface.txt holds it.

A change that is meant: `python tests/test_surface.py` writes surface.txt anew, and the changelog tells users.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("sp_edge", "sp_edge_runtime")
PINNED = Path(__file__).parent / "surface.txt"


def surface() -> str:
    lines = "".join(f"{line}\n" for package in PACKAGES for line in _package(package))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", re.sub(r'"([^"\n]*)"', r"\1", lines))  # annotations are text


def _package(package: str) -> Iterator[str]:
    module = importlib.import_module(package)
    for name in module.__all__:
        yield from _value(f"{package}.{name}", getattr(module, name))


def _value(path: str, value: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        yield f"{path}{inspect.signature(value)}"
    elif not inspect.isclass(value):
        yield path
    elif issubclass(value, Exception):
        yield f"{path}({value.__base__.__name__})"
    elif issubclass(value, enum.Enum):
        yield f"{path}: {', '.join(member.value for member in value)}"
    else:
        yield path if getattr(value, "_is_protocol", False) else f"{path}{inspect.signature(value)}"
        for name, member in sorted(_members(value).items()):
            if isinstance(member, classmethod | staticmethod):
                yield f"{path}.{name}{inspect.signature(member.__func__)}"
            elif inspect.isfunction(member):
                yield f"{path}.{name}{inspect.signature(member)}"
            elif not hasattr(value, "__dataclass_fields__") or name not in value.__dataclass_fields__:
                yield f"{path}.{name}"


def _members(kind: type) -> dict[str, Any]:
    """What a class and those of its bases that are ours define for users."""
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith(PACKAGES)]
    return {name: member for base in ours for name, member in vars(base).items() if not name.startswith("_")}


def test_nothing_public_changes_unnoticed() -> None:
    assert surface() == PINNED.read_text("utf-8"), "python tests/test_surface.py writes it anew, if the change is meant"


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_there_when_they_are_used_and_only_those(package: str) -> None:
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(set(module.__all__), key=lambda name: (name.islower(), name))
    assert set(module.__all__) <= set(dir(module))
    assert not hasattr(module, "Typo")
    with pytest.raises(AttributeError, match="has no attribute 'Typo'"):
        module.Typo  # noqa: B018


def test_importing_the_face_imports_nothing_heavy() -> None:
    program = (
        "import sys, sp_edge, sp_edge_runtime, sp_edge_runtime.sources.options, sp_edge_runtime.streams.options\n"
        "heavy = {'numpy', 'PIL', 'onnxruntime', 'torch', 'cv2', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from sp_edge_runtime import Recognizer, StreamOptions, SourceOptions, open_source, FrameResult, Prediction\n"
        "from sp_edge import Bundle, Bank, Preprocess, SpEdgeError\n"
        "assert Recognizer.load and Bank.empty and 'torch' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


if __name__ == "__main__":
    PINNED.write_text(surface(), "utf-8")
