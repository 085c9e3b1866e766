"""Routes of the Open Inference Protocol v2: a client of Triton talks to the device as to a server."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from sp_edge import __version__
from sp_edge_runtime.page.inference import MOST_IMAGES, InferenceError, Tensor, read_request, write_response
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.parts import MAX_PIXELS, Content, ThePage, read_picture

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
LENGTH = "Inference-Header-Content-Length"
Model = Annotated[str, InPath(max_length=256)]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "`image`: UINT8 [N, H, W, 3] RGB, or BYTES [N], JPEG or PNG files by the binary extension",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string"}},
        },
    }
}


@router.get("")
def server() -> dict[str, Any]:
    """What this server is."""
    return {"name": "sp-edge", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
def live() -> dict[str, bool]:
    """The server answers."""
    return {"live": True}


@router.get("/health/ready")
def ready() -> dict[str, bool]:
    """It can recognize."""
    return {"ready": True}


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}", include_in_schema=False)
def metadata(page: ThePage, model: Model, version: str = "1") -> dict[str, Any]:
    """Inputs and outputs of the model, which is called as the bundle is, without its ending."""
    _check(page, model, version)
    floats = {"datatype": "FP32", "shape": [-1]}
    return {
        "name": model,
        "versions": ["1"],
        "platform": "sp-edge",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "name", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", **floats},
            {"name": "similarity", **floats},
            {"name": "margin", **floats},
            {"name": "feature", "datatype": "FP32", "shape": [-1, page.recognizer.bundle.manifest.feature_dim]},
        ],
    }


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
def model_ready(page: ThePage, model: Model, version: str = "1") -> dict[str, Any]:
    """The model can recognize."""
    _check(page, model, version)
    return {"name": model, "ready": True}


@router.post("/models/{model}/infer", response_class=Response, openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
def infer(page: ThePage, request: Request, model: Model, content: Content, version: str = "1") -> Response:
    """Recognizes up to 32 pictures; 429 where the stream leaves no time for it."""
    _check(page, model, version)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send it uncompressed")
    asked = read_request(content, request.headers.get(LENGTH))
    if set(asked.inputs) != {"image"}:
        raise InferenceError("the model takes one input", expected="image", got=", ".join(asked.inputs)[:200] or "none")
    images = _images(asked.inputs["image"])
    with page.gate.recognizing():
        found = page.recognizer.classify(images)
    outputs: dict[str, NDArray[Any] | list[str]] = {
        "label": [one.label for one in found],
        "name": [one.name for one in found],
        **{
            part: np.array([getattr(one, part) for one in found], np.float32) for part in ("confidence", "similarity", "margin")
        },
        "feature": np.array([one.feature for one in found], np.float32),
    }
    body, length = write_response(model, asked, outputs)
    kind = "application/json" if length is None else "application/octet-stream"
    return Response(body, media_type=kind, headers={} if length is None else {LENGTH: str(length)})


@router.get("/{rest:path}", include_in_schema=False)
def nothing(rest: str) -> JSONResponse:
    """The protocol has more, and this server has not."""
    return JSONResponse({"error": f"there is no {rest[:80]} here"}, 404)


def _check(page: Page, model: str, version: str) -> None:
    if model != page.served or version not in ("", "1"):
        raise HTTPException(404)


def _images(given: Tensor) -> list[NDArray[np.uint8]]:
    if not 1 <= len(given) <= MOST_IMAGES:
        raise InferenceError("too many images, or none", expected=f"1 to {MOST_IMAGES}", got=str(len(given)))
    if isinstance(given, list):
        return [read_picture(one) for one in given]
    if given.ndim != 4 or given.shape[3] != 3 or 0 in given.shape or given.size > 3 * MAX_PIXELS:
        raise InferenceError("these are no images", expected="UINT8 [N, H, W, 3]", got=str(list(given.shape)))
    return list(given)
