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

from sp_edge.bank.checks import check_name, check_new_name, check_rejects, check_sentences, strength_of, threshold_of
from sp_edge.bank.crops import NO_PICTURE, Crops, crops_of
from sp_edge.bank.stored import CLASS_PARTS, PARTS, SCHEMA, SHOT_PARTS, packed, read_parts
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.matching.decide import share, unit
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge.prompts.table import TextSpec, clean_name
from sp_edge.tensors import save_tensors


def _with_row(values: NDArray[Any], row: int, value: float | np.float32) -> NDArray[Any]:
    """The values with one of them changed."""
    changed = values.copy()
    changed[row] = value
    return changed


def reject_name(name: str) -> str:
    """What a bank calls the pictures that are not of a class: not 'mug'."""
    return clean_name(f"not '{clean_name(name)}'")


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
        crops: (M,) bytes, the pictures that the network saw, as JPEG (`bank.crops`); another network is taught from them. A
            class that is known by its name alone has one shot without a picture, `NO_PICTURE`, whose features its name gave.
        bundle_strength: s of the support graph, whose feature is s f(x | g(y)) + (1 - s) f(x).
        text: how the bundle's prompts are made.
        version: counts the changes.
        descriptions: of some of the names, the sentences that their prompts were made of.
        rejects: of some of the names, the class that their pictures are not of: what is nearest to them is 'unknown'.
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
        """Teaches shots of a class, new or known. The first pictures of a class of the name alone take that one's place.

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
        if clean in self.rejects:
            told = self.rejects[clean]
            raise BankError(
                f"a class cannot be called {clean}: that holds what is not '{told}'",
                expected="another name",
                next_step=f"sp-edge enroll --not {shlex.quote(told)} PICTURES",
            )
        kept = np.ones(len(self.owners), bool)
        if clean in self.rows:
            index, names, prompts = self._index(clean), self.names, self.prompts
            thresholds, strengths = self.thresholds, self.strengths
            kept = self.owners != index if self.by_name[index] else kept
            if not np.allclose(prompts[index], prompt, atol=1e-4):
                raise BankError(
                    f"the class '{clean}' was taught with another prompt",
                    expected="the same prompt for every shot of a class",
                    next_step="remove the class and teach it again",
                )
        else:
            check_new_name(clean)
            index, names = len(self.names), (*self.names, clean)
            prompts = np.concatenate([self.prompts, prompt[None]])
            thresholds = np.append(self.thresholds, threshold_of(None))
            strengths = np.append(self.strengths, self.bundle_strength * familiarity)
        described = {clean: tuple(map(clean_sentence, description))} if description else {}
        return replace(
            self,
            names=names,
            descriptions={**self.descriptions, **described},
            prompts=prompts,
            thresholds=thresholds if threshold is None else _with_row(thresholds, index, threshold_of(threshold)),
            strengths=strengths if strength is None else _with_row(strengths, index, strength_of(strength)),
            support=np.concatenate([self.support[kept], support]),
            query=np.concatenate([self.query[kept], query]),
            owners=np.concatenate([self.owners[kept], np.full(len(support), index)]),
            crops=np.concatenate([self.crops[kept], crops_of(crops)]),
            version=self.version + 1,
        )

    def add_by_name(
        self,
        name: str,
        prompt: NDArray[np.float32],
        feature: NDArray[np.float32],
        *,
        threshold: float | None = None,
        strength: float | None = None,
        familiarity: float = 1.0,
        description: Sequence[str] = (),
    ) -> Bank:
        """Teaches a class by its name alone. It has one shot without a picture until `add` brings the first.

        Args:
            name, prompt, description: of the class, as `add` takes them.
            feature: float32 (D,), what the prompt alone says of the class's features.
            threshold, strength, familiarity: as `add` takes them; the strength counts from the first picture on.

        Raises:
            BankError: the class has pictures already, which say more; or as `add`.
            PromptError: as `add`.
        """
        clean = clean_name(name)
        if clean in self.rows and self.pictured[self.rows[clean]]:
            raise BankError(
                f"the class '{clean}' was taught from pictures, to which its name alone adds nothing",
                expected="a class without pictures",
                next_step="give further pictures, or remove the class first",
            )
        return self.add(
            clean, prompt, feature[None], feature[None], [NO_PICTURE],
            threshold=threshold, strength=strength, familiarity=familiarity, description=description,
        )  # fmt: skip

    def add_reject(self, name: str, query: NDArray[np.float32], crops: Sequence[bytes]) -> Bank:
        """Teaches what a class is not: a picture that is nearest to these is 'unknown'.

        Args:
            name: of the class.
            query: float32 (K, D) of K shots that are not of it, from the query graph.
            crops: of the shots, as `add` takes them.

        Raises:
            BankError: there is no such class, it is a reject itself, or shots that do not fit.
            PromptError: not a name.
        """
        clean = clean_name(name)
        if clean not in self.rows or clean in self.rejects:
            raise BankError(
                f"'{clean}' was not taught, so that nothing need be told from it",
                expected=", ".join(self.classes) or "a taught class",
                next_step=f"sp-edge enroll --name {shlex.quote(clean)} PICTURES",
            )
        title = reject_name(clean)
        if title in self.rows and title not in self.rejects:
            raise BankError(f"a class is called {title}", expected="that name free", next_step="remove that class")
        # As a class it would be called so; it becomes a reject by being listed among them.
        plain = replace(self, rejects={other: told for other, told in self.rejects.items() if other != title})
        added = plain.add(title, self.prompts[self.rows[clean]], query, query, crops, strength=0.0)
        return replace(added, rejects={**self.rejects, title: clean})

    def with_strength(self, name: str, strength: float) -> Bank:
        """Changes how strongly a class's prompt counts against its pictures, which need not be there.

        Raises:
            BankError: no such class, or a reject; the strength is not within 0 to 1, or the bundle was exported without
                prompts.
        """
        if clean_name(name) in self.rejects:
            raise BankError("a reject has no strength: it is taught without a name", expected="a class", got=clean_name(name))
        strengths = _with_row(self.strengths, self._index(name), strength_of(strength))
        return replace(self, strengths=strengths, version=self.version + 1)

    def with_threshold(self, name: str, threshold: float | None) -> Bank:
        """Sets the least cosine, -1 to 1, at which a class is believed; None leaves it to the bundle's calibration again.

        Raises:
            BankError: no such class, or a reject, which is never believed; or the threshold is not a cosine.
        """
        if clean_name(name) in self.rejects:
            raise BankError("a reject has no threshold: it is never believed", expected="a class", got=clean_name(name))
        thresholds = _with_row(self.thresholds, self._index(name), threshold_of(threshold))
        return replace(self, thresholds=thresholds, version=self.version + 1)

    def remove(self, name: str, shot: int | None = None) -> Bank:
        """Forgets a class, or one of its shots (counted from 0); with its last shot a class goes too, and with it its reject.

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
        """The bank with some of its shots alone, bool (M,), without the classes that have none of them and their rejects."""
        classes = np.bincount(self.owners[shots], minlength=len(self.names)) > 0
        orphans = [self.rows[reject] for reject, told in self.rejects.items() if not classes[self.rows[told]]]
        classes[orphans] = False
        shots = shots & classes[self.owners]
        parts = {part: getattr(self, part)[classes] for part in CLASS_PARTS}
        parts |= {part: getattr(self, part)[shots] for part in SHOT_PARTS}
        parts["owners"] = (np.cumsum(classes) - 1)[parts["owners"]]
        names = tuple(name for name, kept in zip(self.names, classes.tolist(), strict=True) if kept)
        parts["descriptions"] = {name: self.descriptions[name] for name in names if name in self.descriptions}
        parts["rejects"] = {name: self.rejects[name] for name in names if name in self.rejects}
        return replace(self, names=names, version=self.version + 1, **parts)

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
            "rejects": self.rejects,
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
