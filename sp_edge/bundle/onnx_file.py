"""Reads ONNX files without the package onnx, which a device has not: as much as telling graphs apart and opening them takes.

An ONNX file is one message of Protocol Buffers; the numbers of fields are those of onnx.proto3. Everything read is a view of
the given bytes: a file of any size is read without a copy, and what is no ONNX is a ValueError.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

DEEPEST = 16  # graphs within graphs
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_EXTERNAL = 1

# Where a tensor's numbers may stand as a field of their own: int32_data holds these types, one number a value.
_IN_INT32: Final = {2: "<u1", 3: "<i1", 4: "<u2", 5: "<i2", 6: "<i4", 9: "<u1", 10: "<u2", 16: "<u2"}


class Message:
    """The fields of one message, by number. A field that stands twice where one is meant is refused, not merged.

    Raises:
        ValueError: it is truncated, or no message.
    """

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = defaultdict(list)
        at, end = 0, len(data)
        while at < end:
            key, at = _varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = _varint(data, at)
                self._fields[number].append(value)
                continue
            if kind == _BYTES:
                size, at = _varint(data, at)
            elif kind in (_FOUR, _EIGHT):
                size = 4 if kind == _FOUR else 8
            else:
                raise ValueError(f"a field of unknown kind {kind}")
            if number == 0 or size > end - at:
                raise ValueError("a field reaches beyond the end")
            self._fields[number].append(data[at : at + size])
            at += size

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def parts(self, number: int) -> list[memoryview]:
        """Every value of a field of bytes, texts or messages."""
        values = self._fields.get(number, [])
        found = [value for value in values if isinstance(value, memoryview)]
        if len(found) != len(values):
            raise ValueError(f"field {number} is a number")
        return found

    def messages(self, number: int) -> Iterator[Message]:
        """Every message of a field."""
        return (Message(part) for part in self.parts(number))

    def part(self, number: int) -> memoryview:
        """The one value of a field of bytes; empty where it is absent."""
        found = self.parts(number)
        if len(found) > 1:
            raise ValueError(f"field {number} stands twice")
        return found[0] if found else memoryview(b"")

    def text(self, number: int) -> bytes:
        """The one text of a field, as UTF-8; empty where it is absent."""
        return bytes(self.part(number))

    def texts(self, number: int) -> list[bytes]:
        """Every text of a field, as UTF-8."""
        return [bytes(part) for part in self.parts(number)]

    def numbers(self, number: int) -> list[int]:
        """Every whole number of a field, packed or one by one, as its 64 bits from 0 up."""
        found = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                found.append(value)
                continue
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                found.append(one)
        return found

    def number(self, number: int) -> int:
        """The one whole number of a field; 0 where it is absent."""
        found = self.numbers(number)
        if len(found) > 1:
            raise ValueError(f"field {number} stands twice")
        return found[0] if found else 0


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("a number has too many bytes")


def read_model(content: bytes) -> Message:
    """The message ModelProto of a file, whose field 7 is the graph.

    Raises:
        ValueError: it is no ONNX file.
    """
    model = Message(memoryview(content))
    if not model.part(7):
        raise ValueError("there is no graph")
    return model


def check_whole(content: bytes) -> None:
    """Looks whether a file holds all its weights: a graph that names other files could have any file of this machine read.

    Raises:
        ValueError: it is no ONNX file, or names others.
    """
    model = read_model(content)
    _check_graph(Message(model.part(7)), 0)
    for function in model.messages(25):
        for node in function.messages(7):
            _check_node(node, 0)


def _check_graph(graph: Message, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"graphs stand more than {DEEPEST} deep within each other")
    for tensor in graph.messages(5):
        _check_tensor(tensor)
    for sparse in graph.messages(15):
        _check_sparse(sparse)
    for node in graph.messages(1):
        _check_node(node, depth)


def _check_node(node: Message, depth: int) -> None:
    for attribute in node.messages(5):
        for number in (5, 10):
            for tensor in attribute.messages(number):
                _check_tensor(tensor)
        for number in (22, 23):
            for sparse in attribute.messages(number):
                _check_sparse(sparse)
        for number in (6, 11):
            for graph in attribute.messages(number):
                _check_graph(graph, depth + 1)


def _check_sparse(sparse: Message) -> None:
    for number in (1, 2):
        for tensor in sparse.messages(number):
            _check_tensor(tensor)


def _check_tensor(tensor: Message) -> None:
    if 13 in tensor or tensor.number(14) == _EXTERNAL:
        raise ValueError(f"it reads other files: external data of {tensor.text(8).decode(errors='replace')[:80]!r}")


def tensor_content(tensor: Message) -> tuple[int, tuple[int, ...], memoryview]:
    """A tensor's type as ONNX counts them, its shape, and its numbers as little-endian bytes, wherever they stand.

    Raises:
        ValueError: its numbers stand outside, or in a form that this does not know.
    """
    _check_tensor(tensor)
    kind, shape = tensor.number(2), tuple(tensor.numbers(1))
    if 9 in tensor:
        return kind, shape, tensor.part(9)
    floats = tensor.parts(4) or tensor.parts(10)
    if floats:
        return kind, shape, memoryview(b"".join(floats))
    if 7 in tensor or 11 in tensor:
        wide = np.array(tensor.numbers(7) or tensor.numbers(11), "<u8")
        return kind, shape, memoryview((wide.astype("<u4") if kind == 12 else wide).tobytes())
    if 5 in tensor:
        if kind not in _IN_INT32:
            raise ValueError(f"a tensor of type {kind} stands in int32_data")
        return kind, shape, memoryview(np.array(tensor.numbers(5), "<u8").astype(_IN_INT32[kind]).tobytes())
    if 6 in tensor:
        return kind, shape, memoryview(b"".join(b"%d:%b" % (len(text), text) for text in tensor.texts(6)))
    if math.prod(shape):
        raise ValueError("a tensor has no numbers")
    return kind, shape, memoryview(b"")
