"""sp-edge: few-shot recognition with Semantic Prompt, from training to a Jetson.

What is named here stays; everything else may change. The runtime's names are in `sp_edge_runtime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Bank",
    "BankError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "DataError",
    "ExportError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "PlanError",
    "Preprocess",
    "PromptError",
    "Region",
    "SettingsError",
    "SourceError",
    "SpEdgeError",
    "__version__",
    "load_image",
]

if TYPE_CHECKING:
    from sp_edge.bank.bank import Bank
    from sp_edge.bundle.bundle import Bundle
    from sp_edge.errors import (
        BackendError,
        BankError,
        BundleError,
        CheckpointError,
        DataError,
        ExportError,
        ImageError,
        InputError,
        MissingExtraError,
        PlanError,
        PromptError,
        SettingsError,
        SourceError,
        SpEdgeError,
    )
    from sp_edge.pictures import load_image
    from sp_edge.preprocess import Preprocess
    from sp_edge.view import Region
else:
    from sp_edge.lazy import lazily

    _HOMES = {
        "sp_edge.bank.bank": ("Bank",),
        "sp_edge.bundle.bundle": ("Bundle",),
        "sp_edge.errors": tuple(name for name in __all__ if name.endswith("Error")),
        "sp_edge.pictures": ("load_image",),
        "sp_edge.preprocess": ("Preprocess",),
        "sp_edge.view": ("Region",),
    }
    __getattr__, __dir__ = lazily(__name__, _HOMES)
