"""Reads and writes tensors of the Open Inference Protocol v2, as JSON or by its binary extension.

https://github.com/kserve/open-inference-protocol and, of the extension, Triton's `extension_binary_data.md`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import InputError

MOST_IMAGES = 32  # in a request
Tensor = NDArray[Any] | list[bytes]


class InferenceError(InputError):
    """A request does not follow the protocol, or asks for what there is not."""


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for.

    Attributes:
        name: of the output.
        binary: whether its data follow the JSON, as bytes.
    """

    name: str
    binary: bool


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked.

    Attributes:
        id: which the answer repeats.
        inputs: name -> uint8 (...) or a list of bytes.
        outputs: what is wanted; None for all, `binary` or not.
        binary: of all outputs, where none is named.
    """

    id: str
    inputs: Mapping[str, Tensor]
    outputs: Sequence[Wanted] | None
    binary: bool


def read_request(body: bytes, header_length: str | None) -> Request:
    """Reads a request's body.

    Args:
        body: JSON, or JSON and then the binary data of its inputs.
        header_length: of `Inference-Header-Content-Length`; None where all of the body is JSON.

    Raises:
        InferenceError: it does not follow the protocol.
    """
    if header_length is not None and not (header_length.isdecimal() and int(header_length) <= len(body)):
        raise InferenceError("the length of the JSON is no number within the body")
    length = len(body) if header_length is None else int(header_length)
    try:
        said = json.loads(body[:length])
        given, asked = said["inputs"], said.get("outputs")
        parameters = said.get("parameters", {})
        rest, inputs = memoryview(body)[length:], {}
        for one in given:
            name = str(one["name"])
            size = one.get("parameters", {}).get("binary_data_size")
            data: object = one.get("data")
            if size is not None:
                if type(size) is not int or not 0 <= size <= len(rest):
                    raise InferenceError("binary data are missing", expected=f"{size} bytes for '{name}'", got=f"{len(rest)}")
                data, rest = bytes(rest[:size]), rest[size:]
            inputs[name] = _tensor(name, one["datatype"], one["shape"], data)
        outputs = None
        if asked is not None:
            outputs = [Wanted(str(one["name"]), one.get("parameters", {}).get("binary_data") is True) for one in asked]
        return Request(str(said.get("id", "")), inputs, outputs, parameters.get("binary_data_output") is True)
    except InferenceError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as cause:
        raise InferenceError("the request is no inference request", got=f"{type(cause).__name__}: {cause}"[:200]) from cause


def _tensor(name: str, datatype: object, shape: object, data: object) -> Tensor:
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side <= 1 << 20 for side in shape):
        raise InferenceError(f"the shape of '{name}' is none", expected="whole numbers", got=str(shape)[:80])
    count = math.prod(shape)
    if datatype == "UINT8":
        if isinstance(data, bytes):
            values = np.frombuffer(data, np.uint8)
        else:
            listed = np.asarray(data)
            if listed.dtype.kind not in "iu" or (listed < 0).any() or (listed > 255).any():
                raise InferenceError(f"'{name}' holds no bytes", expected="whole numbers, 0 to 255")
            values = listed.astype(np.uint8).reshape(-1)
        if values.size != count:
            raise InferenceError(f"'{name}' does not fit its shape", expected=f"{count} values", got=str(values.size))
        return values.reshape(shape)
    if datatype == "BYTES":
        texts = _texts(name, data)
        if len(texts) != count:
            raise InferenceError(f"'{name}' does not fit its shape", expected=f"{count} values", got=str(len(texts)))
        return texts
    raise InferenceError(f"'{name}' has a type that is not taken", expected="UINT8 or BYTES", got=str(datatype)[:80])


def _texts(name: str, data: object) -> list[bytes]:
    """The elements of a BYTES tensor: each has its length before it, or stands in a list."""
    if not isinstance(data, bytes):
        raise InferenceError(f"'{name}' is not sent as binary data", expected="BYTES by the binary extension")
    found, place = [], 0
    while place < len(data):
        if place + 4 > len(data):
            raise InferenceError(f"'{name}' ends within a length")
        (length,) = struct.unpack_from("<I", data, place)
        if place + 4 + length > len(data):
            raise InferenceError(f"'{name}' ends within an element")
        found.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return found


def write_response(model: str, request: Request, outputs: Mapping[str, NDArray[Any] | list[str]]) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON where binary data follow.

    Args:
        model: its name.
        request: that is answered.
        outputs: all that there are: name -> float32 (...), or texts.

    Raises:
        InferenceError: an output is asked for that there is not.
    """
    wanted = request.outputs if request.outputs else [Wanted(name, request.binary) for name in outputs]
    described, chunks = [], []
    for one in wanted:
        if one.name not in outputs:
            raise InferenceError(f"there is no output '{one.name[:80]}'", expected=", ".join(outputs))
        values = outputs[one.name]
        is_text = isinstance(values, list)
        shape = [len(values)] if isinstance(values, list) else list(values.shape)
        entry: dict[str, Any] = {"name": one.name, "datatype": "BYTES" if is_text else "FP32", "shape": shape}
        if one.binary:
            if isinstance(values, list):
                data = b"".join(struct.pack("<I", len(text)) + text for text in map(str.encode, values))
            else:
                data = np.ascontiguousarray(values, "<f4").tobytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            chunks.append(data)
        else:
            entry["data"] = values if isinstance(values, list) else values.reshape(-1).tolist()
        described.append(entry)
    answer = {"model_name": model, "model_version": "1", **({"id": request.id} if request.id else {}), "outputs": described}
    head = json.dumps(answer).encode()
    return head + b"".join(chunks), len(head) if chunks else None
