"""Reads recipes (TOML files of settings) and builds frozen dataclasses from their tables."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from sp_edge.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def require(condition: bool, name: str, expected: str, got: object) -> None:
    """Refuses a setting that is out of range.

    Raises:
        SettingsError: the condition does not hold.
    """
    if not condition:
        raise SettingsError(f"the setting {name} is out of range", expected=expected, got=str(got))


def read(recipe: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a recipe with overrides applied; see `sp_edge.settings.settings.Settings.load`."""
    values = _read_recipe(recipe)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise SettingsError("not a setting", expected="section.name=value", got=override)
        *path, last = name.strip().split(".")
        table = values
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise SettingsError("not a setting", expected="section.name=value", got=override)
        table[last] = _parse_value(text.strip())
    return values


def recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("sp_edge.settings") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read_recipe(recipe: str) -> dict[str, Any]:
    try:
        if recipe in recipes():
            return tomllib.loads((resources.files("sp_edge.settings") / "recipes" / f"{recipe}.toml").read_text("utf-8"))
        return tomllib.loads(Path(recipe).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        names = ", ".join(recipes())
        raise SettingsError(f"cannot read the recipe {recipe}", expected=f"{names}, or a TOML file", got=str(cause)) from cause


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _numbers(name: str, value: object, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """One number stands for a list of one."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(type(number) in kinds for number in numbers):
        raise SettingsError(f"the setting {name} is of the wrong kind", expected="a number or a list of them", got=repr(value))
    return numbers


def _number(name: str, value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    require(math.isfinite(number), name, "a finite number", number)
    return number


def build(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> Any:
    """An instance of a dataclass from nested tables; what is absent keeps its default.

    Raises:
        SettingsError: unknown name, wrong kind of value, or out of range.
    """
    if not isinstance(values, Mapping):
        name = prefix.rstrip(".") or "recipe"
        raise SettingsError(f"the setting {name} is of the wrong kind", expected="a table", got=repr(values))
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{prefix}{name}"
        if name not in hints:
            raise SettingsError(f"there is no setting {full}", expected=", ".join(f"{prefix}{n}" for n in hints), got=full)
        wanted = hints[name]
        if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            arguments[name] = build(wanted, value, f"{full}.")
        elif wanted is float and type(value) in (int, float):
            arguments[name] = _number(full, value)
        elif wanted == tuple[int, ...]:
            arguments[name] = _numbers(full, value, (int,))
        elif wanted == tuple[float, ...]:
            arguments[name] = tuple(_number(full, number) for number in _numbers(full, value, (int, float)))
        elif type(value) is not wanted:
            raise SettingsError(f"the setting {full} is of the wrong kind", expected=wanted.__name__, got=repr(value))
        else:
            arguments[name] = value
    return kind(**arguments)
