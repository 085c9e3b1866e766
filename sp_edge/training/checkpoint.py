"""The file that training leaves: weights, settings, class names, prompts and what was measured. Nothing in it is pickled."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch

import sp_edge
from sp_edge.errors import CheckpointError, InputError
from sp_edge.model import PromptedNetwork, build_network
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec, descriptions_from_json
from sp_edge.settings.settings import Settings
from sp_edge.tensors import load_tensors, save_tensors

SCHEMA = 1
NAMED = "named"  # beside the splits: names that what training started from was fitted to
_PROMPTS = "class_prompts"


def familiar_names(classes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names that a network was fitted to, each once: of a checkpoint's `classes`, the base classes' and those before."""
    return tuple(dict.fromkeys(name for split in ("train", NAMED) for name in classes.get(split, ())))


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it comes from.

    Attributes:
        network: in eval mode, on the CPU.
        settings: of the run.
        prompts: of every class of the data set and every name in `classes`, and how they were made.
        stage: 'pretrained' or 'tuned'.
        classes: split -> class names; `NAMED` -> names that the network knew before it saw them.
        record: what training noted: stages, steps, accuracy, versions.
    """

    network: PromptedNetwork
    settings: Settings
    prompts: PromptTable
    stage: str
    classes: Mapping[str, tuple[str, ...]]
    record: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically."""
        weights = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        save_tensors(
            path,
            {**weights, _PROMPTS: self.prompts.vectors},
            {
                "kind": "checkpoint",
                "schema": SCHEMA,
                "settings": self.settings.to_json(),
                "text": self.prompts.text.to_json(),
                "names": self.prompts.names,
                "descriptions": self.prompts.descriptions,
                "stage": self.stage,
                "classes": {split: list(names) for split, names in self.classes.items()},
                "record": dict(self.record),
                "versions": versions(),
            },
        )

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: damaged, not a checkpoint, of another schema, or the weights do not fit the settings.
        """
        tensors, described = load_tensors(path, CheckpointError)
        if described.get("kind") != "checkpoint":
            raise CheckpointError(f"{path} is not a checkpoint", expected="a file that `sp-edge train` wrote")
        schema = described.get("schema")
        if schema != SCHEMA:
            raise CheckpointError(
                f"{path} has another schema",
                expected=str(SCHEMA),
                got=repr(schema)[:80],
                next_step="use the version of sp-edge that wrote it, or train again",
            )
        try:
            settings = Settings.from_mapping(described["settings"])
            prompts = PromptTable(
                TextSpec.from_json(described["text"]),
                tuple(map(str, described["names"])),
                tensors.pop(_PROMPTS),
                descriptions_from_json(described.get("descriptions", {})),
            )
            classes = {str(split): tuple(map(str, names)) for split, names in described["classes"].items()}
            network = build_network(settings.model, prompts.text.dim)
            network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
            stage, record = str(described["stage"]), dict(described["record"])
            if network.text_prototype is not None and "text_prototype" in record:
                network.text_share = settings.model.text_share
                network.familiarity = Familiarity.of(prompts.select(familiar_names(classes)))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, InputError) as cause:
            raise CheckpointError(f"{path} does not fit together", got=f"{type(cause).__name__}: {str(cause)[:300]}") from cause
        return cls(network.eval(), settings, prompts, stage, classes, record)


def versions() -> dict[str, str]:
    """Of what training depends on."""
    return {
        "sp-edge": sp_edge.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
