"""Runs PyTorch's ONNX exporter: quietly, with its errors as ours, and without what it notes about the source."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from sp_edge.errors import ExportError, MissingExtraError

Free = Mapping[int, torch.export.Dim]  # dimension of an input -> the name and least size of what may vary


def run_exporter(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], free: Free, opset: int
) -> torch.onnx.ONNXProgram:
    """Traces a module.

    Args:
        module: in eval mode.
        inputs: by name, in their order: examples.
        outputs: their names, in their order.
        free: of every input.

    Raises:
        ExportError: the exporter gave nothing. What it raises itself is left for `exporter_errors`.
    """
    said = io.StringIO()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            # The exporter warns about its own future; what it made is measured afterwards.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=tuple(dict(free) for _ in inputs),
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise ExportError("torch.onnx.export returned nothing", got=said.getvalue()[-500:])
    return program


@contextlib.contextmanager
def exporter_errors(what: str) -> Iterator[None]:
    """Gives the errors of PyTorch's exporter and of onnx, which have no common type, as ours.

    Raises:
        ExportError: something failed inside.
        MissingExtraError: a package that the exporter needs is not installed.
        OSError: what the system says of the place that is written, such as a full disk.
    """
    try:
        yield
    except (ExportError, OSError):
        raise
    except ModuleNotFoundError as cause:
        raise MissingExtraError(f"cannot export {what}", package=str(cause.name), extra="export") from cause
    except Exception as cause:
        raise ExportError(f"cannot export {what}", got=f"{type(cause).__name__}: {str(cause)[:500]}") from cause


def drop_notes(model: onnx.ModelProto) -> None:
    """Drops what the exporter notes about its source: a megabyte that means nothing elsewhere, with paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
