"""Makes open_clip know a model that is small enough for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch


@contextmanager
def known_to_open_clip(name: str, config: dict[str, Any], folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """While it lasts; what is patched with what it gives lasts as long. torch's seed is 0."""
    (folder / f"{name}.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
        open_clip.add_model_config(folder / f"{name}.json")
        torch.manual_seed(0)
        yield patch
    open_clip.factory._MODEL_CONFIGS.pop(name)
