from __future__ import annotations

import errno

import pytest

from sp_edge.errors import ExportError, MissingExtraError
from sp_edge_export.tracing import exporter_errors


def test_a_full_disk_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="No space left") as caught, exporter_errors("support.onnx"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC


def test_a_missing_package_is_told_with_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"the package onnxscript[\s\S]*sp-edge\[export\]"), exporter_errors("it"):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")


def test_other_errors_are_ours() -> None:
    with pytest.raises(ExportError, match=r"cannot export it[\s\S]*ValueError: no"), exporter_errors("it"):
        raise ValueError("no")
