"""The bundle that commands take where nobody has exported one: the ready-made model's, made once into the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge import __version__, runs
from sp_edge.errors import BundleError, MissingExtraError

MODEL = "efficientnet_lite0"


def default_bundle() -> Path:
    """The path of the bundle, which is made if it is not there; of two commands at once, the second waits for the first.

    Raises:
        BundleError: it cannot be made here: packages are missing, or there is no cache folder.
    """
    from sp_edge.bundle.manifest import is_bundle
    from sp_edge.files import cache_folder, locked

    instead = "sp-edge ready on another machine, then copy ready.spedge here and name it"
    path = cache_folder("ready", BundleError, next_step=instead) / f"{MODEL}-{__version__}.spedge"
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if not is_bundle(path):
            click.echo(f"no bundle in {runs.ROOT}/: making the ready-made model once, which takes half a minute", err=True)
            try:
                make_ready(MODEL, path)
            except MissingExtraError as error:
                raise BundleError(
                    f"no bundle in {runs.ROOT}/, and {error.what}",
                    expected=f"BUNDLE as the first argument, or {error.expected}",
                    got="neither",
                    next_step=f"{error.next_step}; or {instead}",
                ) from error
            click.echo(f"ready-made model: {path}", err=True)
    return path


def is_default(bundle: Path) -> bool:
    """Whether a bundle is the one in the cache."""
    return bundle.name == f"{MODEL}-{__version__}.spedge" and bundle.parent.name == "ready"
