"""Opens graphs in ONNX Runtime: from bytes that were checked before, quietly, and with its errors as ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sp_edge.bundle.onnx_file import check_whole
from sp_edge.errors import BundleError, SpEdgeError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
VERSION = ".".join(onnxruntime.__version__.split(".")[:2])

Inputs = Mapping[str, NDArray[Any]]
# Inputs or outputs: name -> dtype and shape, in which a text stands for a dimension that may vary, such as 'N'.
Signature = Mapping[str, tuple[str, tuple[int | str, ...]]]

_FATAL = 4  # the one severity that ONNX Runtime may still print: its other words come to the user as our errors
_DTYPES = {"float": "float32", "double": "float64"}  # where ONNX Runtime's word is not NumPy's


class Session:
    """A graph that is ready to run. Several threads may run it at once.

    Args:
        content: of the ONNX file, which must hold all its weights. It is not kept.
        name: of the graph, for messages.
        error: what to raise where ONNX Runtime cannot load or run it.
        providers: ONNX Runtime's execution providers; the first is the one that must take the graph.
        threads: of one operator; ONNX Runtime's default is one a physical core.
        settings: ONNX Runtime's own, by their keys.
        next_step: of the error where the graph cannot be loaded or run.

    Raises:
        error: it is no ONNX file, names others, or ONNX Runtime cannot load it, or not with the provider asked for.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        error: type[SpEdgeError],
        *,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        settings: Mapping[str, str] | None = None,
        next_step: str = "",
    ) -> None:
        self._name, self._error, self._next_step = name, error, next_step
        try:
            check_whole(content)
        except ValueError as cause:
            raise error(f"cannot load {name}", expected="an ONNX file with all its weights inside", got=str(cause)) from cause
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        # It rounds biases to 32 bits, which overflow for channels whose weights are all but zero (ONNX Runtime 1.32).
        options.add_session_config_entry("optimization.disable_specified_optimizers", "WeightBiasQuantization")
        for key, value in (settings or {}).items():
            options.add_session_config_entry(key, value)
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            # Without `enable_fallback=0` ONNX Runtime would print and go on with other providers.
            self._session = onnxruntime.InferenceSession(content, options, providers=list(providers), enable_fallback=0)
        except Exception as cause:  # ONNX Runtime's own errors have no common type
            raise error(
                f"ONNX Runtime cannot load {name}",
                expected=f"a graph that version {onnxruntime.__version__} can run",
                got=str(cause)[:500],
                next_step=next_step,
            ) from cause
        # It keeps the file's content to start anew on another provider, which it is not to do.
        vars(self._session).pop("_model_bytes", None)
        taken = self._session.get_providers()
        if taken[:1] != list(providers[:1]):
            raise error(
                f"ONNX Runtime did not take {name} to {providers[0]}",
                expected=providers[0],
                got=", ".join(taken),
                next_step="install the CUDA and cuDNN versions that onnxruntime needs, or use --device cpu",
            )

    def check(self, inputs: Signature, outputs: Signature, *, next_step: str = "") -> None:
        """Holds what the graph takes and gives against what it should.

        Raises:
            BundleError: a name, dtype or shape is another, or a dimension is fixed that may vary.
        """
        expected = (inputs, outputs)
        found = (_signature(self._session.get_inputs()), _signature(self._session.get_outputs()))
        if [_known(each) for each in found] != [_known(each) for each in expected]:
            raise BundleError(
                f"the graph {self._name} is not what the manifest says",
                expected=" -> ".join(map(_words, expected)),
                got=" -> ".join(map(_words, found)),
                next_step=next_step,
            )

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Runs the graph.

        Args:
            inputs: by name; they are only read.
            outputs: names of those that are wanted.

        Returns:
            Their values, in this order, which the caller owns.

        Raises:
            SpEdgeError: ONNX Runtime cannot run it; of the type that was given.
        """
        try:
            return [np.asarray(value) for value in self._session.run(list(outputs), dict(inputs))]
        except Exception as cause:  # ONNX Runtime's own errors have no common type
            raise self._error(
                f"ONNX Runtime cannot run {self._name}",
                expected=", ".join(inputs),
                got=str(cause)[:500],
                next_step=self._next_step,
            ) from cause


def _signature(nodes: Iterable[Any]) -> Signature:
    """What a session says of its inputs or outputs; a dimension without a name is '?'."""
    found = {}
    for node in nodes:
        word = node.type.removeprefix("tensor(").removesuffix(")")
        found[node.name] = (_DTYPES.get(word, word), tuple("?" if size is None else size for size in node.shape or ()))
    return found


def _known(signature: Signature) -> Signature:
    """The same whatever the dimensions that may vary are called."""
    return {
        name: (dtype, tuple("?" if isinstance(size, str) else size for size in shape))
        for name, (dtype, shape) in signature.items()
    }


def _words(signature: Signature) -> str:
    return ", ".join(f"{name} {dtype} ({', '.join(map(str, shape))})" for name, (dtype, shape) in signature.items())
