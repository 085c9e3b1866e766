"""A sidecar and a plan for tests; nothing is built."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import INPUTS, OUTPUTS
from sp_edge.engines.device import Device
from sp_edge.engines.plans import plan_path, sidecar_of
from sp_edge.engines.sidecar import Sidecar, Tensor
from sp_edge.files import write_json

DEVICE = Device("tensorrt", "10.3.0", "8.7", "Orin", "540.4.0", "12.6", "36.4.3", "Linux", "aarch64")
CONTENT = b"plan"


def sidecar(
    bundle: str,
    onnx: str,
    *,
    graph: str = "query",
    precision: str = "fp16",
    max_batch: int = 1,
    flavour: str = "tensorrt",
    targets: tuple[str, ...] = (),
    content: bytes = CONTENT,
) -> Sidecar:
    """Of a plan built on DEVICE, for pictures of 32 px, prompts of 4 and features of 6 numbers."""

    def tensor(name: str, dtype: str, *rest: int) -> Tensor:
        if max_batch == 1:
            return Tensor(name, dtype, (1, *rest))
        profile = None if name in OUTPUTS["support"] else ((1, *rest), (max_batch, *rest), (max_batch, *rest))
        return Tensor(name, dtype, (-1, *rest), profile)

    tensors = {"image": tensor("image", "uint8", 32, 32, 3), "prompt": tensor("prompt", "float32", 4)}
    tensors |= {name: tensor(name, "float32", 6) for name in OUTPUTS["support"]}
    return Sidecar(
        sp_edge="0.1.0",
        bundle=bundle,
        graph=graph,
        precision=precision,
        plan_sha256=sha256(content).hexdigest(),
        plan_bytes=len(content),
        onnx_file=f"{graph}.onnx",
        onnx_sha256=onnx,
        device=replace(DEVICE, flavour=flavour),
        targets=targets,
        inputs=tuple(tensors[name] for name in INPUTS[graph]),
        outputs=tuple(tensors[name] for name in OUTPUTS[graph]),
        layers={"float16": 5},
        max_batch=max_batch,
        workspace=1.0,
        optimization_level=3,
        preprocess={"image_size": 32},
    )


def put(bundle: Bundle, folder: Path, device: Device = DEVICE, *, content: bytes = CONTENT, **changes: Any) -> Path:
    """Writes a plan for a bundle's fp32 graph as if it had been built on `device`."""
    graph = changes.pop("graph", "query")
    digest, _ = bundle.manifest.files[f"{graph}.onnx"]
    made = sidecar(
        bundle.fingerprint, digest, graph=graph, precision="fp32", content=content, max_batch=changes.pop("max_batch", 1)
    )
    made = replace(made, device=device, **changes)
    path = plan_path(bundle, graph, made.precision, made.max_batch, device, targets=made.targets, folder=folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    write_json(sidecar_of(path), made.to_json())
    return path
