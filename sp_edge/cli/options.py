"""Makes command-line options of a dataclass: names, types, defaults and words are the dataclass's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from functools import wraps
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from sp_edge.cli.shared import together
from sp_edge.errors import SettingsError
from sp_edge.options import described


def options_of(
    settings: type[Any], parameter: str, instead: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Any], Any]:
    """A decorator: the command gets an option for each attribute, and the dataclass as one parameter.

    The dataclass itself refuses what is out of range.

    Args:
        settings: a dataclass whose docstring describes each attribute under 'Attributes:'.
        parameter: of the command that takes the dataclass.
        instead: attribute -> arguments of `click.option` that differ from what the attribute says; 'option' renames it.
    """
    kinds, words = get_type_hints(settings), described(settings)
    names = {field.name: "--" + field.name.replace("_", "-") for field in fields(settings)}

    def option(field: Field[Any]) -> Callable[[Any], Any]:
        default = None if field.default is MISSING else field.default
        arguments = {
            "help": words[field.name],
            "default": default,
            "show_default": default not in (None, False),
            **_kind(kinds[field.name]),
            **(instead or {}).get(field.name, {}),
        }
        names[field.name] = arguments.pop("option", names[field.name])
        return click.option(names[field.name], field.name, **arguments)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def call(*args: Any, **given: Any) -> Any:
            try:
                given[parameter] = settings(**{name: given.pop(name) for name in names})
            except SettingsError as error:
                name, _, rest = error.what.partition(" ")
                raise SettingsError(f"{names.get(name, name)} {rest}", expected=error.expected, got=error.got) from error
            return command(*args, **given)

        return together(*map(option, fields(settings)))(call)

    return decorate


def _kind(hint: Any) -> dict[str, Any]:
    """How click reads a value of such a type."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    if get_origin(hint) is Literal:
        return {"type": click.Choice(get_args(hint))}
    if len(kinds) == 1 and NoneType in get_args(hint):
        return _kind(kinds[0])
    return {"is_flag": True} if hint is bool else {"type": hint if hint in (int, float) else click.STRING}
