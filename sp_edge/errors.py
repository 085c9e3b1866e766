"""Every error that sp-edge raises on purpose.

SpEdgeError
|-- InputError            what the user gave cannot be used; the command exits with 2
|   |-- SettingsError     an option, recipe or setting
|   |-- ImageError        one picture
|   |-- DataError         a data set: folders, classes, splits
|   |-- PromptError       a class name or a table of prompts
|   |-- CheckpointError   a training checkpoint
|   |-- BundleError       an exported bundle
|   |-- BankError         a bank of taught classes
|   |-- PlanError         a TensorRT engine, or the sidecar beside it
|   |-- SourceError       a camera, video or folder of frames
|   `-- MissingExtraError a package that an optional part needs
|-- ExportError           an exported graph or engine is not what it should be; exits with 1
`-- BackendError          the machine's inference engine failed; exits with 1
"""

from __future__ import annotations

from functools import partial
from typing import Any


class SpEdgeError(Exception):
    """Says what went wrong, what was expected, what was there instead, and what to do next."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str = "", got: str = "", next_step: str = "") -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.next_step = next_step
        lines = [what]
        lines += [f"  {word}: {value}" for word, value in (("expected", expected), ("got", got), ("next", next_step)) if value]
        super().__init__("\n".join(lines))


class InputError(SpEdgeError):
    """What the user gave cannot be used."""

    exit_code = 2


class SettingsError(InputError):
    """An option, recipe or setting is out of range or unknown."""


class ImageError(InputError):
    """A picture cannot be read or used."""


class DataError(InputError):
    """A data set is incomplete or contradicts itself."""


class PromptError(InputError):
    """A class name has no prompt, or a table of prompts does not fit."""


class CheckpointError(InputError):
    """A checkpoint is damaged or belongs to something else."""


class BundleError(InputError):
    """A bundle is damaged, incomplete or of another version."""


class BankError(InputError):
    """A bank is damaged or belongs to another bundle."""


class PlanError(InputError):
    """A TensorRT engine or its sidecar is damaged, missing, or of another machine."""


class SourceError(InputError):
    """A camera, video or folder of frames cannot be read."""


class MissingExtraError(InputError):
    """An optional package is not installed."""

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        super().__init__(
            what, expected=f"the package {package}", got="not installed", next_step=f"pip install 'sp-edge[{extra}]'"
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets a worker process hand the error to its parent."""
        return partial(type(self), self.what, package=self.package, extra=self.extra), ()


class ExportError(SpEdgeError):
    """An exported graph or engine is not what it should be."""


class BackendError(SpEdgeError):
    """The inference engine of this machine failed."""
