"""What a bank holds of the classes that a device was taught: names, prompts, thresholds, shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.checks import check_name, check_rejects, check_sentences
from sp_edge.bank.crops import NO_PICTURE, Crops
from sp_edge.bank.gray import is_gray_crop
from sp_edge.errors import BankError, SettingsError
from sp_edge.matching.decide import share, unit
from sp_edge.prompts.spelling import spelling_key
from sp_edge.prompts.table import TextSpec, clean_name
from sp_edge.view import Fit, check_fit


@dataclass(frozen=True, eq=False)
class Contents:
    """Taught classes, checked once, and what follows from them. A `Bank` is these with the ways to change them.

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
        crops: (M,) bytes, the pictures that the network saw, as JPEG (`bank.crops`); another network is taught from them. A
            class that is known by its name alone has one shot without a picture, `NO_PICTURE`, whose features its name gave.
        bundle_strength: s of the support graph, whose feature is s f(x | g(y)) + (1 - s) f(x).
        text: how the bundle's prompts are made.
        version: counts the changes.
        descriptions: of some of the names, the sentences that their prompts were made of.
        rejects: of some of the names, the class that their pictures are not of: what is nearest to them is 'unknown'.
        fit: how the shots became the network's square; what is to be recognized is fitted alike (`sp_edge.view.View`).
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
    rejects: Mapping[str, str] = field(default_factory=dict)
    fit: Fit = "crop"

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
            check_name(name)
        if len(set(self.names)) != classes:
            raise BankError("a class stands twice in the bank", expected="distinct names")
        if not set(self.descriptions) <= set(self.names):
            raise BankError("the bank describes a class that it does not hold", expected="descriptions of its classes")
        for name, sentences in self.descriptions.items():
            check_sentences(name, sentences)
        if sorted(set(self.owners.tolist())) != list(range(classes)):
            raise BankError("the bank's shots and classes do not fit", expected="at least one shot a class")
        if (np.bincount(self.owners, minlength=classes)[self.by_name] > 1).any():
            raise BankError("the bank's shots and classes do not fit", expected="no picture of a class of the name alone")
        check_rejects(self.names, self.rejects)
        try:
            check_fit(self.fit)
        except SettingsError as cause:
            raise BankError("the bank's fit is not known", expected=cause.expected, got=cause.got) from cause
        if not all(np.isfinite(value).all() for value in (self.prompts, self.support, self.query)):
            raise BankError("the bank holds numbers that are not finite")
        if not (np.isnan(self.thresholds) | (np.abs(self.thresholds) <= 1)).all():
            raise BankError("the bank holds a threshold that is no cosine", expected="-1 to 1, or NaN where none was set")
        for strength in self.strengths.tolist():
            self._check_strength(strength)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Name -> row of each class in the arrays that have a row a class."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What a picture may be taken for: the names without the rejects."""
        return tuple(name for name in self.names if name not in self.rejects)

    @cached_property
    def by_name(self) -> NDArray[np.bool_]:
        """Bool (C,): which classes are known by their name alone, without a picture."""
        found = np.zeros(len(self.names), bool)
        found[self.owners[self.crops == NO_PICTURE]] = True
        return found

    @cached_property
    def rejecting(self) -> NDArray[np.bool_]:
        """Bool (C,): which are no classes, but rejects."""
        return np.array([name in self.rejects for name in self.names], bool)

    @cached_property
    def pictured(self) -> NDArray[np.bool_]:
        """Bool (C,): which are classes that were taught from pictures; only their shots tell how pictures of a class vary."""
        return ~(self.by_name | self.rejecting)

    @cached_property
    def gray(self) -> NDArray[np.bool_]:
        """Bool (M,): which shots have no color. Each is decoded for that, which takes up to a millisecond."""
        return np.array([is_gray_crop(crop) for crop in self.crops], bool)

    @cached_property
    def knows_color_alone(self) -> bool:
        """Whether a class was taught from pictures none of which is gray; what is gray may not be told from others then."""
        own = (self.crops[self.owners == row] for row in np.flatnonzero(self.pictured).tolist())
        return any(not any(map(is_gray_crop, crops)) for crops in own)

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
        """How many pictures a class was taught from; 0 of one that is known by its name alone."""
        return len(self.pictures(name))

    def pictures(self, name: str) -> Crops:
        """The pictures that a class was taught from, as `crops` holds them."""
        own = self.crops[self.owners == self._index(name)]
        return own[own != NO_PICTURE]

    def spelling(self, name: str) -> str:
        """How the bank spells a name: 'Mug' for 'mug' where it has 'Mug'. The clean name where it has no such class.

        Raises:
            BankError: it has several spellings of it, and not this one.
            PromptError: not a name.
        """
        clean = clean_name(name)
        if name in self.rows:
            return name
        alike = (clean,) if clean in self.rows else self._spellings.get(spelling_key(clean), (clean,))
        if len(alike) > 1:
            told = " and ".join(f"'{one}'" for one in alike)
            raise BankError(f"which class is '{clean}'?", expected="a class's name as the bank spells it", got=told)
        return alike[0]

    @cached_property
    def _spellings(self) -> Mapping[str, tuple[str, ...]]:
        """What all spellings of a name have in common -> the names of the bank."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.names:
            key = spelling_key(name)
            found[key] = (*found.get(key, ()), name)
        return found

    def _index(self, name: str) -> int:
        own = self.spelling(name)
        if own not in self.rows:
            raise BankError(f"the bank has no class '{own}'", expected=", ".join(self.names) or "an empty bank has none")
        return self.rows[own]

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
