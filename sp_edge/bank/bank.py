"""The classes that a device was taught: names, prompts, thresholds, and every shot's features and picture."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.crops import Crops, crops_of
from sp_edge.bank.stored import CLASS_PARTS, PARTS, SCHEMA, SHOT_PARTS, packed, read_parts
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, PromptError
from sp_edge.matching.decide import share, unit
from sp_edge.matching.label import UNKNOWN
from sp_edge.options import number
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge.prompts.table import TextSpec, clean_name
from sp_edge.tensors import save_tensors


def _threshold(value: float | None) -> np.float32:
    """As a bank holds it: NaN where the calibration decides."""
    if value is None:
        return np.float32(np.nan)
    if not number(value, -1, 1):
        raise BankError("the threshold is out of range", expected="a cosine, -1 to 1", got=repr(value)[:80])
    return np.float32(value)


def _strength(value: float) -> float:
    if not number(value, 0, 1):
        raise BankError("the prompt's strength is out of range", expected="0 to 1", got=repr(value)[:80])
    return float(value)


def _with_row(values: NDArray[Any], row: int, value: float | np.float32) -> NDArray[Any]:
    """The values with one of them changed."""
    changed = values.copy()
    changed[row] = value
    return changed


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


def _check_sentences(name: str, sentences: Sequence[str]) -> None:
    try:
        clean = [clean_sentence(sentence) for sentence in sentences]
    except PromptError as cause:
        raise BankError(f"the bank holds a description of '{name}' that cannot be one", got=str(cause)) from cause
    if not clean or clean != list(sentences):
        raise BankError(f"the bank's description of '{name}' is not clean", expected=repr(clean), got=repr(sentences)[:200])


@dataclass(frozen=True, eq=False)
class Bank:
    """An immutable value: each change gives a new bank with the next version, so that a stream can swap it between frames.

    Attributes:
        fingerprint: of the bundle whose features these are.
        names: C distinct clean names.
        prompts: float32 (C, T), with which each class's shots were encoded.
        thresholds: float32 (C,) least cosine at which a user wants each class believed, in the bank's metric; NaN where the
            bundle's calibration decides (`sp_edge.bank.head.Head`).
        strengths: float64 (C,) of each class's prompt against its pictures, 0 to 1; see `sp_edge.matching.decide.share`.
        support: float32 (M, D) raw features of the shots, as the support graph gave them.
        query: float32 (M, D) raw features of the same shots without the prompt, as the query graph would give them.
        owners: int64 (M,) class of each shot.
        crops: (M,) bytes, the pictures that the network saw, as JPEG (`bank.crops`); another network is taught from them.
        bundle_strength: s of the support graph, whose feature is s f(x | g(y)) + (1 - s) f(x).
        text: how the bundle's prompts are made.
        version: counts the changes.
        descriptions: of some of the names, the sentences that their prompts were made of.
    """

    fingerprint: str
    names: tuple[str, ...]
    prompts: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    strengths: NDArray[np.float64]
    support: NDArray[np.float32]
    query: NDArray[np.float32]
    owners: NDArray[np.int64]
    crops: Crops
    bundle_strength: float
    text: TextSpec
    version: int = 0
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        classes, shots = len(self.names), self.support.shape[:1]
        forms: dict[str, tuple[NDArray[Any], Any, tuple[int, ...], int]] = {
            "prompts": (self.prompts, np.float32, (classes, *self.prompts.shape[1:]), 2),
            "thresholds": (self.thresholds, np.float32, (classes,), 1),
            "strengths": (self.strengths, np.float64, (classes,), 1),
            "support": (self.support, np.float32, (*shots, *self.support.shape[1:]), 2),
            "query": (self.query, np.float32, self.support.shape, 2),
            "owners": (self.owners, np.int64, shots, 1),
            "crops": (self.crops, np.object_, shots, 1),
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
        if not set(self.descriptions) <= set(self.names):
            raise BankError("the bank describes a class that it does not hold", expected="descriptions of its classes")
        for name, sentences in self.descriptions.items():
            _check_sentences(name, sentences)
        if sorted(set(self.owners.tolist())) != list(range(classes)):
            raise BankError("the bank's shots and classes do not fit", expected="at least one shot a class")
        if not all(np.isfinite(value).all() for value in (self.prompts, self.support, self.query)):
            raise BankError("the bank holds numbers that are not finite")
        if not (np.isnan(self.thresholds) | (np.abs(self.thresholds) <= 1)).all():
            raise BankError("the bank holds a threshold that is no cosine", expected="-1 to 1, or NaN where none was set")
        for strength in self.strengths.tolist():
            self._check_strength(strength)

    @classmethod
    def empty(cls, bundle: Bundle) -> Bank:
        """A bank for a bundle, with no class yet."""
        none = np.zeros((0, bundle.manifest.feature_dim), np.float32)
        return cls(
            fingerprint=bundle.fingerprint,
            names=(),
            prompts=np.zeros((0, bundle.manifest.text.dim), np.float32),
            thresholds=np.zeros(0, np.float32),
            strengths=np.zeros(0),
            support=none,
            query=none,
            owners=np.zeros(0, np.int64),
            crops=crops_of(()),
            bundle_strength=bundle.manifest.strength,
            text=bundle.manifest.text,
        )

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Name -> row of each class in the arrays that have a row a class."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def examples(self) -> NDArray[np.float64]:
        """Float64 (M, D): what each shot x adds to its class's prototype, s_K f(x | g(y)) + (1 - s_K) f(x)."""
        counts = np.bincount(self.owners, minlength=len(self.names))
        # With the bundle's s, the support graph's feature is s f(x | g(y)) + (1 - s) f(x): s_K / s of it hold s_K f(x | g(y)).
        # Where s is 0 every s_K is 0, too.
        shares = [share(strength, shots) for strength, shots in zip(self.strengths.tolist(), counts.tolist(), strict=True)]
        part = np.array(shares)[self.owners, None] / (self.bundle_strength or 1.0)
        return np.asarray(part * self.support + (1 - part) * self.query)

    @cached_property
    def prototypes(self) -> NDArray[np.float32]:
        """Float32 (C, D) of length one: the mean of each class's examples, normalised."""
        if not self.names:
            return self.query
        counts = np.bincount(self.owners)
        ordered = self.examples[np.argsort(self.owners, kind="stable")]
        return unit(np.add.reduceat(ordered, np.cumsum(counts) - counts) / counts[:, None])

    def shots(self, name: str) -> int:
        """How many shots a class has."""
        return int((self.owners == self._index(name)).sum())

    def add(
        self,
        name: str,
        prompt: NDArray[np.float32],
        support: NDArray[np.float32],
        query: NDArray[np.float32],
        crops: Sequence[bytes],
        *,
        threshold: float | None = None,
        strength: float | None = None,
        familiarity: float = 1.0,
        description: Sequence[str] = (),
    ) -> Bank:
        """Teaches shots of a class, new or known.

        Args:
            name: of the class, in any spelling.
            prompt: float32 (T,) with which the shots were encoded; a known class must have the same.
            support: float32 (K, D), from the support graph with that prompt.
            query: float32 (K, D), of the same shots without it.
            crops: K pictures that the network saw, as `bank.crops.encode_crop` gives them.
            threshold: of the class, as `with_threshold` sets it. By default a known class keeps its own, and a new one is
                calibrated.
            strength: of the class's prompt with all its shots, as `with_strength` sets it. By default a known class keeps
                its own, and a new one has the bundle's times the prompt's familiarity.
            familiarity: of the prompt, 0 to 1; see `sp_edge.prompts.familiarity`.
            description: the sentences that the prompt was made of, where it was not made of the name; none leaves a known
                class's own.

        Raises:
            BankError: shapes that do not fit the bank, no shots, another prompt than the class has, or a strength that
                cannot be.
            PromptError: not a name, or not a sentence.
        """
        clean = clean_name(name)
        k, dim = support.shape[:1], self.support.shape[1:]
        shapes = [self.prompts.shape[1:], k + dim, k + dim, k]
        got = [prompt.shape, support.shape, query.shape, (len(crops),)]
        if 0 in k or got != shapes:
            raise BankError(
                f"the shots of '{clean}' do not fit the bank",
                expected=f"at least one shot; prompt, support, query and crops of {shapes}",
                got=str(got),
            )
        if clean in self.rows:
            index, names, prompts = self._index(clean), self.names, self.prompts
            thresholds, strengths = self.thresholds, self.strengths
            if not np.allclose(prompts[index], prompt, atol=1e-4):
                raise BankError(
                    f"the class '{clean}' was taught with another prompt",
                    expected="the same prompt for every shot of a class",
                    next_step="remove the class and teach it again",
                )
        else:
            index, names = len(self.names), (*self.names, clean)
            prompts = np.concatenate([self.prompts, prompt[None]])
            thresholds = np.append(self.thresholds, _threshold(None))
            strengths = np.append(self.strengths, self.bundle_strength * familiarity)
        described = {clean: tuple(map(clean_sentence, description))} if description else {}
        return replace(
            self,
            names=names,
            descriptions={**self.descriptions, **described},
            prompts=prompts,
            thresholds=thresholds if threshold is None else _with_row(thresholds, index, _threshold(threshold)),
            strengths=strengths if strength is None else _with_row(strengths, index, _strength(strength)),
            support=np.concatenate([self.support, support]),
            query=np.concatenate([self.query, query]),
            owners=np.concatenate([self.owners, np.full(len(support), index)]),
            crops=np.concatenate([self.crops, crops_of(crops)]),
            version=self.version + 1,
        )

    def with_strength(self, name: str, strength: float) -> Bank:
        """Changes how strongly a class's prompt counts against its pictures, which need not be there.

        Raises:
            BankError: no such class, the strength is not within 0 to 1, or the bundle was exported without prompts.
        """
        strengths = _with_row(self.strengths, self._index(name), _strength(strength))
        return replace(self, strengths=strengths, version=self.version + 1)

    def with_threshold(self, name: str, threshold: float | None) -> Bank:
        """Sets the least cosine, -1 to 1, at which a class is believed; None leaves it to the bundle's calibration again.

        Raises:
            BankError: no such class, or the threshold is not a cosine.
        """
        thresholds = _with_row(self.thresholds, self._index(name), _threshold(threshold))
        return replace(self, thresholds=thresholds, version=self.version + 1)

    def remove(self, name: str, shot: int | None = None) -> Bank:
        """Forgets a class, or one of its shots (counted from 0); with its last shot a class goes too.

        Raises:
            BankError: no such class or shot.
        """
        own = np.flatnonzero(self.owners == self._index(name))
        if shot is not None and not 0 <= shot < len(own):
            raise BankError(f"the class '{name}' has no such shot", expected=f"0 to {len(own) - 1}", got=str(shot))
        kept = np.ones(len(self.owners), bool)
        kept[own if shot is None else own[shot]] = False
        return self.keep(kept)

    def keep(self, shots: NDArray[np.bool_]) -> Bank:
        """The bank with some of its shots alone, bool (M,), and without the classes that have none of them."""
        classes = np.bincount(self.owners[shots], minlength=len(self.names)) > 0
        parts = {part: getattr(self, part)[classes] for part in CLASS_PARTS}
        parts |= {part: getattr(self, part)[shots] for part in SHOT_PARTS}
        parts["owners"] = (np.cumsum(classes) - 1)[parts["owners"]]
        names = tuple(name for name, kept in zip(self.names, classes.tolist(), strict=True) if kept)
        descriptions = {name: self.descriptions[name] for name in names if name in self.descriptions}
        return replace(self, names=names, descriptions=descriptions, version=self.version + 1, **parts)

    def _index(self, name: str) -> int:
        clean = clean_name(name)
        if clean not in self.rows:
            raise BankError(f"the bank has no class '{clean}'", expected=", ".join(self.names) or "an empty bank has none")
        return self.rows[clean]

    def _check_strength(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise BankError("the prompt's strength is out of range", expected="0 to 1", got=str(strength))
        if self.bundle_strength == 0 < strength:
            raise BankError(
                "this bundle's support graph takes no prompts",
                expected="strength 0, with which it was exported",
                got=str(strength),
                next_step="export a checkpoint whose model.prompt_strength is above 0",
            )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The parts by name, as a file holds them."""
        return packed({part: getattr(self, part) for part in PARTS})

    def save(self, path: Path) -> None:
        """Writes the bank as one safetensors file, atomically."""
        described = {
            "kind": "bank",
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "names": self.names,
            "descriptions": self.descriptions,
            "version": self.version,
            "bundle_strength": self.bundle_strength,
            "text": self.text.to_json(),
        }
        save_tensors(path, self.tensors(), described)

    @classmethod
    def load(cls, path: Path, bundle: Bundle) -> Bank:
        """Reads what `save` wrote, for use with `bundle`.

        Raises:
            BankError: damaged, not a bank, of another schema, or made with another bundle.
        """
        bank = cls.read(path)
        if bank.fingerprint != bundle.fingerprint:
            raise BankError(
                f"{path} was made with another bundle",
                expected=f"bundle {bundle.fingerprint[:12]}",
                got=f"bundle {bank.fingerprint[:12]}",
                next_step=f"sp-edge bank renew {shlex.quote(str(bundle.path))} --bank {shlex.quote(str(path))} teaches its "
                "classes again, from the pictures in it",
            )
        if bank.support.shape[1] != bundle.manifest.feature_dim or bank.prompts.shape[1] != bundle.manifest.text.dim:
            raise BankError(f"{path} does not fit the bundle", expected=f"features of {bundle.manifest.feature_dim}")
        return bank

    @classmethod
    def read(cls, path: Path) -> Bank:
        """Reads what `save` wrote, whichever bundle it was made with.

        Raises:
            BankError: damaged, not a bank, or of another schema.
        """
        parts = read_parts(path)
        try:
            return cls(**parts)
        except BankError as cause:
            raise BankError(
                f"{path} is damaged: {cause.what}",
                expected=cause.expected,
                got=cause.got,
                next_step="put a copy of the file in its place, or move it away and teach its classes again",
            ) from cause
