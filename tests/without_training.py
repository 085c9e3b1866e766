"""The beginning of a program in which none of training's and export's packages is installed."""

from __future__ import annotations

BLOCK = """
import importlib, sys

BLOCKED = {
    "torch", "torchvision", "timm", "transformers", "open_clip", "sentence_transformers", "easyfsl", "accelerate", "sklearn",
    "onnx", "onnxscript",
}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
for name in BLOCKED:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is not blocked")
"""
