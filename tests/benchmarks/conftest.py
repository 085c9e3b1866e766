"""Opens benchmarks, which are programs and on no path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def open_benchmark() -> Callable[[str], ModuleType]:
    """`open_benchmark('prompts')` is benchmarks/prompts.py."""

    folder = Path(__file__).parents[2] / "benchmarks"

    def opened(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmark_of_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)  # where a program that is run finds its neighbors
            spec.loader.exec_module(module)
        return module

    return opened
