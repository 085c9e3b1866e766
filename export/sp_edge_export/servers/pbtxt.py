"""Writes protobuf's text format, in which Triton reads a model's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence


class Symbol(str):
    """The name of an enumeration's value, which stands without quotes."""

    __slots__ = ()


Value = str | int | bool | Sequence["Value"] | Mapping[str, "Value"]


def pbtxt(message: Mapping[str, Value]) -> str:
    """A message as text: a sequence is a repeated field, a mapping a message, a `Symbol` an enumeration's value."""
    return "\n".join(_lines(message, "")) + "\n"


def _lines(message: Mapping[str, Value], indent: str) -> Iterator[str]:
    for field, value in message.items():
        repeated = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for item in repeated:
            if isinstance(item, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field}: {_scalar(item)}"


def _scalar(value: Value) -> str:
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # JSON's escapes are protobuf's too, but for those of characters that are not ASCII, which are left as they are.
    return json.dumps(value, ensure_ascii=False)
