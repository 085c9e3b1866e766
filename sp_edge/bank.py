"""The file with the classes that a device was taught: names, prompts, every shot's feature, thumbnails, thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bundle import Bundle
from sp_edge.errors import BankError, PromptError
from sp_edge.files import load_tensors, save_tensors
from sp_edge.matching import UNKNOWN, prototype, unit
from sp_edge.prompts import clean_name

SCHEMA = 1
THUMBNAIL = 64


def thumbnail(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A shot as a person recognises it: uint8 (H, W, 3) RGB -> (64, 64, 3)."""
    return np.asarray(Image.fromarray(image_rgb).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR))


def _check_name(name: str) -> None:
    try:
        clean = clean_name(name)
    except PromptError as cause:
        raise BankError("the bank holds a name that cannot be one", got=str(cause)) from cause
    if clean != name:
        raise BankError("the bank holds a name that is not clean", expected=repr(clean), got=repr(name))
    if name == UNKNOWN:
        raise BankError(
            f"a class cannot be called '{UNKNOWN}'",
            expected="another name",
            got="what a picture is called that fits no class",
        )


@dataclass(frozen=True, eq=False)
class Bank:
    """An immutable value: each change gives a new bank with the next version, so that a stream can swap it between frames.

    Attributes:
        fingerprint: of the bundle whose features these are.
        names: C distinct clean names.
        prompts: float32 (C, T), with which each class's shots were encoded.
        thresholds: float32 (C,) least cosine at which each class is believed.
        features: float32 (M, D) raw support features, one a shot.
        owners: int64 (M,) class of each shot.
        thumbnails: uint8 (M, 64, 64, 3) RGB.
        version: counts the changes.
    """

    fingerprint: str
    names: tuple[str, ...]
    prompts: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    features: NDArray[np.float32]
    owners: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]
    version: int = 0

    def __post_init__(self) -> None:
        classes, shots = len(self.names), self.features.shape[:1]
        forms: dict[str, tuple[NDArray[Any], Any, tuple[int, ...], int]] = {
            "prompts": (self.prompts, np.float32, (classes, *self.prompts.shape[1:]), 2),
            "thresholds": (self.thresholds, np.float32, (classes,), 1),
            "features": (self.features, np.float32, (*shots, *self.features.shape[1:]), 2),
            "owners": (self.owners, np.int64, shots, 1),
            "thumbnails": (self.thumbnails, np.uint8, (*shots, THUMBNAIL, THUMBNAIL, 3), 4),
        }
        for name, (value, dtype, shape, ndim) in forms.items():
            if value.dtype != dtype or value.shape != shape or value.ndim != ndim:
                raise BankError(
                    f"the bank's {name} do not fit", expected=f"{np.dtype(dtype)} {shape}", got=f"{value.dtype} {value.shape}"
                )
        for name in self.names:
            _check_name(name)
        if len(set(self.names)) != classes:
            raise BankError("a class stands twice in the bank", expected="distinct names")
        if sorted(set(self.owners.tolist())) != list(range(classes)):
            raise BankError("the bank's shots and classes do not fit", expected="at least one shot a class")
        if not all(np.isfinite(value).all() for value in (self.prompts, self.thresholds, self.features)):
            raise BankError("the bank holds numbers that are not finite")

    @classmethod
    def empty(cls, bundle: Bundle) -> Bank:
        """A bank for a bundle, with no class yet."""
        floats = np.zeros((0, bundle.manifest.feature_dim), np.float32)
        return cls(
            fingerprint=bundle.fingerprint,
            names=(),
            prompts=np.zeros((0, bundle.manifest.text.dim), np.float32),
            thresholds=np.zeros(0, np.float32),
            features=floats,
            owners=np.zeros(0, np.int64),
            thumbnails=np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8),
        )

    @cached_property
    def prototypes(self) -> NDArray[np.float32]:
        """Float32 (C, D) of length one: the mean of each class's raw shots, then normalised."""
        if not self.names:
            return self.features
        return unit(np.stack([prototype(self.features[self.owners == c]) for c in range(len(self.names))]))

    def shots(self, name: str) -> int:
        """How many shots a class has."""
        return int((self.owners == self._index(name)).sum())

    def add(
        self,
        name: str,
        prompt: NDArray[np.float32],
        features: NDArray[np.float32],
        thumbnails: NDArray[np.uint8],
        *,
        threshold: float,
    ) -> Bank:
        """Teaches shots of a class, new or known.

        Args:
            name: of the class, in any spelling.
            prompt: float32 (T,) with which the shots were encoded; a known class must have the same.
            features: float32 (K, D).
            thumbnails: uint8 (K, 64, 64, 3) RGB.
            threshold: of a new class; a known class keeps its own.

        Raises:
            BankError: shapes that do not fit the bank, no shots, or another prompt than the class has.
            PromptError: not a name.
        """
        clean = clean_name(name)
        k = features.shape[:1]
        shapes = [self.prompts.shape[1:], k + self.features.shape[1:], k + self.thumbnails.shape[1:]]
        got = [prompt.shape, features.shape, thumbnails.shape]
        if 0 in k or got != shapes:
            raise BankError(
                f"the shots of '{clean}' do not fit the bank",
                expected=f"at least one shot; prompt, features and thumbnails of {shapes}",
                got=str(got),
            )
        if clean in self.names:
            index, names, prompts, thresholds = self._index(clean), self.names, self.prompts, self.thresholds
            if not np.allclose(prompts[index], prompt, atol=1e-4):
                raise BankError(
                    f"the class '{clean}' was taught with another prompt",
                    expected="the same prompt for every shot of a class",
                    next_step="remove the class and teach it again",
                )
        else:
            index, names = len(self.names), (*self.names, clean)
            prompts = np.concatenate([self.prompts, prompt[None]])
            thresholds = np.append(self.thresholds, np.float32(threshold))
        return replace(
            self,
            names=names,
            prompts=prompts,
            thresholds=thresholds,
            features=np.concatenate([self.features, features]),
            owners=np.concatenate([self.owners, np.full(len(features), index)]),
            thumbnails=np.concatenate([self.thumbnails, thumbnails]),
            version=self.version + 1,
        )

    def remove(self, name: str, shot: int | None = None) -> Bank:
        """Forgets a class, or one of its shots (counted from 0); with its last shot a class goes too.

        Raises:
            BankError: no such class or shot.
        """
        index = self._index(name)
        own = np.flatnonzero(self.owners == index)
        if shot is not None and not 0 <= shot < len(own):
            raise BankError(f"the class '{name}' has no such shot", expected=f"0 to {len(own) - 1}", got=str(shot))
        keep = np.ones(len(self.owners), bool)
        keep[own if shot is None else own[shot]] = False
        bank: dict[str, Any] = {
            "features": self.features[keep],
            "thumbnails": self.thumbnails[keep],
            "version": self.version + 1,
        }
        if shot is not None and len(own) > 1:
            return replace(self, owners=self.owners[keep], **bank)
        classes = np.arange(len(self.names)) != index
        owners = self.owners[keep]
        return replace(
            self,
            names=tuple(n for n, kept in zip(self.names, classes, strict=True) if kept),
            prompts=self.prompts[classes],
            thresholds=self.thresholds[classes],
            owners=owners - (owners > index),
            **bank,
        )

    def _index(self, name: str) -> int:
        clean = clean_name(name)
        if clean not in self.names:
            raise BankError(f"the bank has no class '{clean}'", expected=", ".join(self.names) or "an empty bank has none")
        return self.names.index(clean)

    def save(self, path: Path) -> None:
        """Writes the bank as one safetensors file, atomically."""
        tensors = {n: getattr(self, n) for n in ("prompts", "thresholds", "features", "owners", "thumbnails")}
        described = {
            "kind": "bank",
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "names": self.names,
            "version": self.version,
        }
        save_tensors(path, tensors, described)

    @classmethod
    def load(cls, path: Path, bundle: Bundle) -> Bank:
        """Reads what `save` wrote, for use with `bundle`.

        Raises:
            BankError: damaged, not a bank, or made with another bundle.
        """
        tensors, described = load_tensors(path, BankError)
        names, version = described.get("names"), described.get("version")
        if described.get("kind") != "bank" or described.get("schema") != SCHEMA:
            raise BankError(f"{path} is not a bank", expected=f"a file that `sp-edge enroll` wrote, schema {SCHEMA}")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or not isinstance(version, int):
            raise BankError(f"{path} is not a bank", expected="names and a version")
        parts = {"prompts", "thresholds", "features", "owners", "thumbnails"}
        if set(tensors) != parts:
            raise BankError(f"{path} is not a bank", expected=", ".join(sorted(parts)), got=", ".join(sorted(tensors)))
        if described.get("fingerprint") != bundle.fingerprint:
            raise BankError(
                f"{path} was made with another bundle",
                expected=f"bundle {bundle.fingerprint[:12]}",
                got=f"bundle {str(described.get('fingerprint'))[:12]}",
                next_step="its features do not compare with this bundle's: enrol its classes again, from their pictures",
            )
        bank = cls(fingerprint=bundle.fingerprint, names=tuple(names), version=version, **tensors)
        if bank.features.shape[1] != bundle.manifest.feature_dim or bank.prompts.shape[1] != bundle.manifest.text.dim:
            raise BankError(f"{path} does not fit the bundle", expected=f"features of {bundle.manifest.feature_dim}")
        return bank
