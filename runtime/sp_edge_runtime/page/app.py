"""The page's application: its routes, its files, and what an error looks like."""

from __future__ import annotations

import logging
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from sp_edge import __version__
from sp_edge.errors import InputError, SpEdgeError
from sp_edge_runtime.page import api_bank, api_classes, api_infer, api_live, api_metrics, api_recent, api_recognize, models
from sp_edge_runtime.page.gate import BusyError
from sp_edge_runtime.page.guard import Guard, host_names
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.teach import RefusedError

ASSETS = resources.files(__package__) / "assets"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_log = logging.getLogger("sp_edge_runtime")


def make_app(page: Page, *, allow_host: str | None = None) -> Guard:
    """The application of a page, behind its guard.

    Args:
        page: what it shows.
        allow_host: another name of this device; see `PageOptions`.
    """
    failures: dict[int | str, dict[str, object]] = {
        status: {"model": models.Failure} for status in (401, 403, 404, 413, 422, 429, 503)
    }
    app = FastAPI(
        title="sp-edge", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        description="Few-shot recognition: teach a class with a name and a few pictures, and recognize it.",
        responses=failures,
    )  # fmt: skip
    app.state.page = page
    for part in (api_live, api_classes, api_recent, api_bank, api_recognize, api_infer, api_metrics):
        app.include_router(part.router)
    assets = {one.name: one.read_bytes() for one in ASSETS.iterdir() if one.name[-4:] != ".pyc" and one.is_file()}

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        return _asset(assets, "index.html")

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        return _asset(assets, name)

    app.add_exception_handler(SpEdgeError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _broken)
    return Guard(app, token=page.token, hosts=host_names(allow_host), admit=page.gate.open)


def _asset(assets: dict[str, bytes], name: str) -> Response:
    if name not in assets:
        raise HTTPException(404)
    kind = _KINDS.get(name[name.rfind(".") :], "application/octet-stream")
    return Response(assets[name], media_type=kind, headers={"cache-control": "no-cache"})


def _failure(status: int, error: str, expected: str = "", got: str = "", reasons: dict[str, int] | None = None) -> JSONResponse:
    said = models.Failure(error=error, expected=expected, got=got, reasons=reasons or {})
    return JSONResponse(said.model_dump(), status, {"retry-after": "1"} if status == 429 else None)


async def _told(_request: Request, error: Exception) -> Response:
    """What was refused on purpose."""
    if not isinstance(error, SpEdgeError):
        raise error
    status = 429 if isinstance(error, BusyError) else 422 if isinstance(error, InputError) else 503
    return _failure(status, error.what, error.expected, error.got, error.reasons if isinstance(error, RefusedError) else None)


async def _invalid(_request: Request, error: Exception) -> Response:
    """What does not fit the description."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    first = found[0] if found else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    return _failure(422, f"{place}: {first.get('msg', 'it does not fit')}")


async def _http(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "There is nothing here", 405: "This cannot be done here", 401: "The token is another one"}
    return _failure(status, words.get(status, str(getattr(error, "detail", ""))))


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has its kind, the answer says no more than that there was one."""
    _log.error("a request to %s failed: %s: %s", request.scope["route"].path if "route" in request.scope else "the page",
               type(error).__name__, error)  # fmt: skip
    return _failure(500, "This failed, and it is our fault")
