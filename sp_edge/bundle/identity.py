"""What a graph computes, as one digest: weights, operators, attributes and how they are joined, and not a file's bytes.

A value's digest is that of the operator that gives it, its attributes, and the digests of its inputs; a weight's is that of
its type, shape and numbers (a Merkle tree, Merkle 1987). So names, the order of operators and what leads to no output do not
count, nor do notes, versions and the number of the opset. Spellings of the same:

1. a weight may stand in the graph or in an operator Constant, and its numbers in any of ONNX's fields;
2. Identity is what it is given;
3. Add and Mul may take their two inputs in either order;
4. Gelu may be written as x (0.5 (1 + erf(x / sqrt 2))), as below opset 20, which has it as one operator.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping

from sp_edge.bundle.onnx_file import DEEPEST, Message, read_model, tensor_content

Digest = bytes
_FLOAT = 1
_EITHER_WAY = (b"Add", b"Mul")


def graph_digest(content: bytes) -> str:
    """Hex digest of what an ONNX file computes, by the names of its inputs and outputs.

    Raises:
        ValueError: it is no ONNX file, or its weights are outside.
    """
    model = read_model(content)
    graph = Message(model.part(7))
    outputs = _Walk().outputs(graph, {}, 0)
    named = sorted(zip(_names(graph, 12), outputs, strict=True))
    functions = sorted(bytes(part) for part in model.parts(25))  # not looked into: their names count
    return _digest(b"graph", *(part for pair in named for part in pair), *functions).hex()


class _Walk:
    """Goes through a graph once, in the order of its operators, which ONNX says is that of the work."""

    def __init__(self) -> None:
        self._made: dict[Digest, tuple[bytes, list[Digest]]] = {}  # value -> operator and inputs

    def outputs(self, graph: Message, outer: Mapping[bytes, Digest], depth: int) -> list[Digest]:
        """The digests of a graph's outputs.

        Args:
            graph: the message GraphProto.
            outer: the values that a graph within another one sees.
            depth: of graphs within graphs.
        """
        if depth > DEEPEST:
            raise ValueError(f"graphs stand more than {DEEPEST} deep within each other")
        known = {**outer, b"": b""}
        for place, name in enumerate(_names(graph, 11)):
            known[name] = _digest(b"input", b"%d" % depth, b"%d" % place if depth else name)
        for weight in graph.messages(5):
            known[weight.text(8)] = _tensor(weight)
        for sparse in graph.messages(15):
            values, indices = (Message(sparse.part(number)) for number in (1, 2))
            shape = repr(sparse.numbers(3)).encode()
            known[values.text(8)] = _digest(b"sparse", _tensor(values), _tensor(indices), shape)
        for node in graph.messages(1):
            known.update(self._values(node, known, depth))
        return [_of(known, name) for name in _names(graph, 12)]

    def _values(self, node: Message, known: Mapping[bytes, Digest], depth: int) -> dict[bytes, Digest]:
        operator, domain = node.text(4), node.text(7)
        domain = b"" if domain == b"ai.onnx" else domain
        inputs = [_of(known, name) for name in node.texts(1)]
        attributes = {attribute.text(1): attribute for attribute in node.messages(5)}
        names = node.texts(2)
        if not domain and len(names) == 1:
            value = self._spelt(operator, inputs, attributes)
            if value is not None:
                return {names[0]: value}
            inputs = sorted(inputs) if operator in _EITHER_WAY else inputs
        described = [part for name in sorted(attributes) for part in (name, self._attribute(attributes[name], known, depth))]
        made = _digest(b"operator", domain, operator, node.text(8), b"%d" % len(described), *described, *inputs)
        if not domain:
            self._made[made] = operator, inputs
        return {name: _digest(b"output", made, b"%d" % place) if place else made for place, name in enumerate(names) if name}

    def _spelt(self, operator: bytes, inputs: list[Digest], attributes: Mapping[bytes, Message]) -> Digest | None:
        """The value of an operator that has several spellings; None of any other."""
        if operator == b"Constant" and set(attributes) == {b"value"}:
            return _tensor(Message(attributes[b"value"].part(5)))
        if operator == b"Identity" and len(inputs) == 1:
            return inputs[0]
        if operator == b"Gelu" and len(inputs) == 1 and _is_exact(attributes):
            return _digest(b"gelu", inputs[0])
        given = self._given_to_gelu(inputs) if operator == b"Mul" and len(inputs) == 2 else None
        return None if given is None else _digest(b"gelu", given)

    def _given_to_gelu(self, factors: list[Digest]) -> Digest | None:
        """The x of a product x (0.5 (1 + erf(x / sqrt 2))); None of another product."""
        for x, factor in (factors, factors[::-1]):
            sum_ = self._beside(b"Mul", factor, _HALF)
            erf = self._beside(b"Add", sum_, _ONE)
            operator, inputs = self._made.get(erf, (b"", []))
            if operator == b"Erf" and [self._made.get(value) for value in inputs] == [(b"Div", [x, _ROOT_OF_TWO])]:
                return x
        return None

    def _beside(self, operator: bytes, value: Digest, constant: Digest) -> Digest:
        """What an Add or Mul that gave a value was given beside a constant; nothing where it was given others."""
        made, inputs = self._made.get(value, (b"", []))
        others = [other for other in inputs if other != constant]
        return others[0] if made == operator and len(inputs) == 2 and len(others) == 1 else b""

    def _attribute(self, attribute: Message, known: Mapping[bytes, Digest], depth: int) -> Digest:
        parts: list[bytes] = [bytes(attribute.part(2)), repr(attribute.numbers(3)).encode(), attribute.text(4)]
        parts += [b"".join(attribute.parts(7)), repr(attribute.numbers(8)).encode(), _digest(*attribute.parts(9))]
        parts += [_digest(*map(_tensor, attribute.messages(number))) for number in (5, 10)]
        for number in (6, 11):
            graphs = attribute.messages(number)
            parts.append(_digest(*(_digest(*self.outputs(graph, known, depth + 1)) for graph in graphs)))
        parts += [_digest(*attribute.parts(number)) for number in (14, 15, 21, 22, 23)]  # rare: as their bytes
        return _digest(b"attribute", *parts)


def _is_exact(attributes: Mapping[bytes, Message]) -> bool:
    """Whether a Gelu computes erf, and not the approximation by tanh."""
    return all(name == b"approximate" and attribute.text(4) == b"none" for name, attribute in attributes.items())


def _names(graph: Message, number: int) -> list[bytes]:
    """The names of a graph's inputs (11) or outputs (12)."""
    return [value.text(1) for value in graph.messages(number)]


def _of(known: Mapping[bytes, Digest], name: bytes) -> Digest:
    if name not in known:
        raise ValueError(f"nothing gives the value {name.decode(errors='replace')[:80]!r}")
    return known[name]


def _tensor(tensor: Message) -> Digest:
    kind, shape, numbers = tensor_content(tensor)
    return _weight(kind, shape, numbers)


def _weight(kind: int, shape: tuple[int, ...], numbers: bytes | memoryview) -> Digest:
    return _digest(b"weight", b"%d" % kind, repr(shape).encode(), numbers)


def _digest(*parts: bytes | memoryview) -> Digest:
    """Of several parts, each with its length, so that no two lists of parts look alike."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def _scalars(values: Iterable[float]) -> list[Digest]:
    return [_weight(_FLOAT, (), struct.pack("<f", value)) for value in values]


_HALF, _ONE, _ROOT_OF_TWO = _scalars((0.5, 1.0, 2**0.5))
