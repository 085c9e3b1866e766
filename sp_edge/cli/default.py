"""The bundle that commands take where nobody has exported one: the ready-made model's, made once into the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge import __version__, runs
from sp_edge.errors import BundleError, MissingExtraError

MODEL = "efficientnet_lite0"
_NAME = f"{MODEL}-{__version__}.spedge"


def default_bundle() -> Path:
    """The path of the bundle, which is made if it is not there; of two commands at once, the second waits for the first.

    Raises:
        BundleError: it cannot be made here: packages are missing, or there is no cache folder.
    """
    from sp_edge.bundle.manifest import is_bundle
    from sp_edge.files import cache_folder, locked

    instead = "sp-edge ready on another machine, then copy ready.spedge here and name it"
    path = cache_folder("ready", BundleError, next_step=instead) / _NAME
    if is_bundle(path):
        click.echo(f"no bundle in {runs.ROOT}/: using the ready-made model in {path}", err=True)
        return path
    try:
        from sp_edge_export.ready import make_ready
    except ImportError as cause:
        raise BundleError(
            f"no bundle in {runs.ROOT}/, and the ready-made model cannot be made here",
            expected=f"BUNDLE as the first argument, or the package {cause.name}",
            got="neither",
            next_step=f"pip install 'sp-edge[ready]'; or {instead}",
        ) from cause
    try:
        with locked(path):
            if not is_bundle(path):
                click.echo(f"no bundle in {runs.ROOT}/: making the ready-made model once, which takes half a minute", err=True)
                make_ready(MODEL, path)
                click.echo(f"ready-made model: {path}", err=True)
    except MissingExtraError as error:
        raise BundleError(
            f"no bundle in {runs.ROOT}/, and {error.what}",
            expected=f"BUNDLE as the first argument, or {error.expected}",
            got="neither",
            next_step=f"{error.next_step}; or {instead}",
        ) from error
    except OSError as cause:
        raise BundleError(
            f"no bundle in {runs.ROOT}/, and the ready-made model cannot be written to the cache",
            expected="BUNDLE as the first argument, or a cache folder that can be written, with 100 MB free",
            got=str(cause),
            next_step="sp-edge ready, and name ready.spedge as BUNDLE; or set XDG_CACHE_HOME to another folder",
        ) from cause
    return path


def is_default(bundle: Path) -> bool:
    """Whether a bundle is the one in the cache."""
    return bundle.name == _NAME and bundle.parent.name == "ready"
