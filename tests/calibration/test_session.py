from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from sp_edge.errors import ExportError
from sp_edge_calibration.session import batches, check_graph, open_session, run_in_batches


def test_what_cannot_run_is_our_error(model: onnx.ModelProto) -> None:
    run = open_session(model.SerializeToString(), "the graph")
    with pytest.raises(ExportError, match="cannot run the graph"):
        run({"image": np.zeros((1, 8, 8, 3), np.uint8)})
    model.graph.node[5].op_type = "Relux"
    with pytest.raises(ExportError, match="cannot load the graph"):
        open_session(model.SerializeToString(), "the graph")


def test_batches_cover_every_row() -> None:
    parts = list(batches({"a": np.arange(7), "b": np.arange(7) * 2}, size=3))
    assert [part["a"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all((part["b"] == 2 * part["a"]).all() for part in parts)


def test_a_file_is_read_as_a_strangers(model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "query.onnx"
    onnx.save(model, file)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    (features,) = run_in_batches(open_session(file, "the file"), {"image": images})
    (expected,) = open_session(model.SerializeToString(), "the graph")({"image": images})
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    model.graph.initializer[-1].dims[0] = 2**40
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="is not what it declares to be"):
        open_session(file, "the file")
    # A device that only runs graphs has no onnx: there it is for ONNX Runtime to refuse it.
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "sp_edge_calibration.graph")
    check_graph(file.read_bytes(), "the file")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load the file"):
        open_session(file, "the file")
