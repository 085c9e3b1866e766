"""The classes that a device was taught, as a value: each change gives a new bank."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.checks import check_new_name, strength_of, threshold_of
from sp_edge.bank.contents import Contents
from sp_edge.bank.crops import NO_PICTURE, crops_of
from sp_edge.bank.stored import CLASS_PARTS, SHOT_PARTS, packed, read_parts, write_parts
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge.prompts.table import clean_name
from sp_edge.view import Fit, check_fit


def _with_row(values: NDArray[Any], row: int, value: float | np.float32) -> NDArray[Any]:
    """The values with one of them changed."""
    changed = values.copy()
    changed[row] = value
    return changed


def reject_name(name: str) -> str:
    """What a bank calls the pictures that are not of a class: not 'mug'."""
    return clean_name(f"not '{clean_name(name)}'")


@dataclass(frozen=True, eq=False)
class Bank(Contents):
    """An immutable value: each change gives a new bank with the next version, so that a stream can swap it between frames."""

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
            name: of the class, in any spelling; a known class keeps its own.
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
        clean = self.spelling(name)
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
        clean = self.spelling(name)
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
        clean = self.spelling(name)
        if clean not in self.rows or clean in self.rejects:
            raise BankError(
                f"'{clean}' was not taught, so that nothing need be told from it",
                expected=", ".join(self.classes) or "a taught class",
                next_step=f"sp-edge enroll --name {shlex.quote(clean)} PICTURES",
            )
        title = self.spelling(reject_name(clean))
        if title in self.rows and title not in self.rejects:
            raise BankError(f"a class is called {title}", expected="that name free", next_step="remove that class")
        # As a class it would be called so; it becomes a reject by being listed among them.
        plain = replace(self, rejects={other: told for other, told in self.rejects.items() if other != title})
        added = plain.add(title, self.prompts[self.rows[clean]], query, query, crops, strength=0.0)
        return replace(added, rejects={**self.rejects, title: clean})

    def with_fit(self, fit: Fit) -> Bank:
        """The bank for shots that were fitted so; once it has one from a picture, all are fitted alike.

        Raises:
            BankError: it has shots that were fitted in another way.
            SettingsError: no such fit.
        """
        if fit == self.fit:
            return self
        check_fit(fit)
        if not self.by_name.all():
            raise BankError(
                f"the bank's pictures were taught with another fit than '{fit}'",
                expected=f"{self.fit}, as for every picture of this bank",
                got=fit,
                next_step="leave --fit out; or teach another bank, with --bank FILE",
            )
        return replace(self, fit=fit)

    def with_strength(self, name: str, strength: float) -> Bank:
        """Changes how strongly a class's prompt counts against its pictures, which need not be there.

        Raises:
            BankError: no such class, or a reject; the strength is not within 0 to 1, or the bundle was exported without
                prompts.
        """
        if (own := self.spelling(name)) in self.rejects:
            raise BankError("a reject has no strength: it is taught without a name", expected="a class", got=own)
        strengths = _with_row(self.strengths, self._index(name), strength_of(strength))
        return replace(self, strengths=strengths, version=self.version + 1)

    def with_threshold(self, name: str, threshold: float | None) -> Bank:
        """Sets the least cosine, -1 to 1, at which a class is believed; None leaves it to the bundle's calibration again.

        Raises:
            BankError: no such class, or a reject, which is never believed; or the threshold is not a cosine.
        """
        if (own := self.spelling(name)) in self.rejects:
            raise BankError("a reject has no threshold: it is never believed", expected="a class", got=own)
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

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The parts by name, as a file holds them."""
        return packed(self)

    def save(self, path: Path) -> None:
        """Writes the bank as one safetensors file, atomically."""
        write_parts(path, self)

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
