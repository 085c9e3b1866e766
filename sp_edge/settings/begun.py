"""The file that says what a training run is: its settings, and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sp_edge import runs
from sp_edge.errors import SettingsError
from sp_edge.files import read_json, write_json
from sp_edge.settings.settings import Settings


@dataclass(frozen=True)
class Begun:
    """What a run's settings.json says.

    Attributes:
        settings: of the run.
        init: what it starts from instead of pre-training: a checkpoint's path, or 'timm'; None where it pre-trains.
        lacks: settings that the file does not name, as an earlier version of sp-edge did not have them. They take their
            defaults, which do as that version did.
    """

    settings: Settings
    init: str | None
    lacks: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def read(cls, folder: Path) -> Begun:
        """Reads the file of a run's folder.

        Raises:
            SettingsError: missing, damaged, or it names a setting that this version does not know.
        """
        path = folder / runs.SETTINGS
        content = read_json(path, SettingsError)
        init = content.get("init")
        if not isinstance(content.get("settings"), dict) or not (init is None or isinstance(init, str)):
            raise SettingsError(f"{path} says nothing of a run", expected="what `sp-edge train` wrote there")
        stored, known = _flat(content["settings"]), _flat(Settings().to_json())
        unknown = [name for name in stored if name not in known]
        if unknown:
            raise SettingsError(
                f"{folder} holds a run with settings that this version of sp-edge does not know",
                expected="a run that this version or an earlier one began",
                got=", ".join(unknown[:5]),
                next_step="continue it with the version that began it, or train anew in another folder",
            )
        lacks = tuple(name for name in known if name not in stored)
        return cls(Settings.from_mapping(content["settings"]), init, lacks)

    def write(self, folder: Path) -> None:
        """Writes the file, atomically.

        Raises:
            OSError: it cannot be written.
        """
        write_json(folder / runs.SETTINGS, {"settings": self.settings.to_json(), "init": self.init})

    def filled_in(self) -> str:
        """The settings that the file does not name with the values that they take, as 'tune.patience = 0, ...'."""
        values = _flat(self.settings.to_json())
        return ", ".join(f"{name} = {values[name]}" for name in self.lacks)

    def differences(self, other: Begun) -> list[str]:
        """What another run does otherwise, as 'seed = 1 instead of 0'."""
        own, others = ({**_flat(run.settings.to_json()), "init": run.init} for run in (self, other))
        return [f"{name} = {others[name]} instead of {value}" for name, value in own.items() if others[name] != value]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Section.name -> value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
