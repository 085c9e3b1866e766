"""Imports the optional packages that run graphs, and gives one name to whatever goes wrong there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sp_edge.errors import BackendError, MissingExtraError


@contextmanager
def importing(package: str, *, extra: str, what: str) -> Iterator[None]:
    """Around the import of a package.

    Args:
        package: as it is imported, such as 'tensorrt_rtx'.
        extra: of sp-edge, which brings it.
        what: cannot be done without it; for the error.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is installed and does not load, such as for want of a shared library.
    """
    try:
        yield
    except Exception as cause:  # a library that does not load has no common type: ImportError, OSError, RuntimeError
        if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] == package:
            raise MissingExtraError(what, package=package.replace("_", "-"), extra=extra) from cause
        raise BackendError(
            f"{package} is installed, but does not load",
            expected="a complete installation",
            got=str(cause),
            next_step=f"sp-edge doctor; install {package.replace('_', '-')} again, or use --device cpu",
        ) from cause
