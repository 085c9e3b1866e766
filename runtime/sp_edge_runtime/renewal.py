"""Teaches the classes of a bank again with another bundle, from the pictures that the bank keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.accuracy import Share
from sp_edge.bank.advice import left_out
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop
from sp_edge.bank.file import BankFile
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import PromptError
from sp_edge.matching.decide import row_cosines
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.table import PromptTable
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import Features
from sp_edge_runtime.naming import Namer, Prompt
from sp_edge_runtime.teaching import Teacher

SAME = 0.9999  # least cosine of all shots' features from which two networks count as one: a threshold means the same in both


@dataclass(frozen=True)
class RenewedClass:
    """What became of a class.

    Attributes:
        name: of the class.
        shots: how many were encoded again; 0 of a class that is known by its name alone.
        prompt: where its prompt comes from: see `naming.Prompt.source`; 'bank' is the one that it had.
        strength: of its prompt, before and after.
        threshold: that a user had set, before and after; None where the calibration decides.
        cosine: least of its shots' features, before to after; None where they are of different length.
    """

    name: str
    shots: int
    prompt: str
    strength: tuple[float, float]
    threshold: tuple[float | None, float | None]
    cosine: float | None


@dataclass(frozen=True)
class Renewal:
    """What was taught again, and what it changed.

    Attributes:
        bundle: fingerprint, before and after; the same where there was nothing to do.
        classes: in the bank's order; none where there was nothing to do.
        accuracy: of shots, each left out in turn, by the nearest prototype, before and after; None where every class has one.
        side: of the pictures that the bank keeps, and of those that the bundle's network sees, in pixels.
    """

    bundle: tuple[str, str]
    classes: tuple[RenewedClass, ...]
    accuracy: tuple[Share | None, Share | None]
    side: tuple[tuple[int, ...], int]

    def lines(self) -> list[str]:
        """For a terminal."""
        if self.bundle[0] == self.bundle[1] and not self.classes:
            return ["the bank is of this bundle already: nothing to renew"]
        found = []
        before, after = self.accuracy
        if before is not None and after is not None:
            found.append(f"shots nearest to their class, each tested without itself: {before} before, {after} now")
        cosines = [one.cosine for one in self.classes if one.cosine is not None]
        if cosines:
            found.append(f"features before and after: cosine {min(cosines):.4f} or better")
        if set(self.side[0]) - {self.side[1]}:
            sizes = ", ".join(map(str, self.side[0]))
            found.append(f"the pictures were resized from {sizes} to {self.side[1]} pixels: new pictures may work better")
        for one in self.classes:
            if one.strength[0] != one.strength[1]:
                found.append(f"'{one.name}': strength {one.strength[0]:.3f} -> {one.strength[1]:.3f}, as enroll chooses it")
            if one.threshold[0] is not None and one.threshold[1] is None:
                found.append(f"'{one.name}': threshold {one.threshold[0]:.3f} -> calibrated: the two bundles' cosines differ")
        return found

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it; what was before and is after is an object with 'old' and 'new'."""
        shares = [None if share is None else share.to_json() for share in self.accuracy]
        return {
            "bundle": _pair(self.bundle),
            "accuracy": _pair(shares),
            "picture_side": _pair((list(self.side[0]), self.side[1])),
            "classes": [
                asdict(one) | {"strength": _pair(one.strength), "threshold": _pair(one.threshold)} for one in self.classes
            ],
        }


def renew(
    bank: str | Path,
    bundle: str | Path,
    *,
    device: str = "auto",
    precision: str | None = None,
    engines: str | Path | None = None,
    prompts: PromptTable | None = None,
) -> Renewal:
    """Teaches every class of a bank's file again with a bundle, in one step that `undo` takes back.

    Args:
        bank: the file, of any bundle.
        bundle: the folder of the new one.
        device, precision, engines: as `Recognizer.load` takes them.
        prompts: of names that the bundle does not know; they count more than the bundle's own.

    Raises:
        BankError: the file is no bank, holds pictures that cannot be read, or a class of the name alone, and the bundle does
            not tell what names look like; it stays as it is.
        PromptError: names that the bundle has no prompts for; all of them are named.
        BundleError, BackendError, PlanError, MissingExtraError, SettingsError: the bundle cannot be used.
        OSError: the file cannot be written.
    """
    loaded = Bundle.load(Path(bundle))
    file = BankFile(Path(bank), loaded)
    before = Bank.read(file.path)
    if before.fingerprint == loaded.fingerprint:
        return Renewal((before.fingerprint, loaded.fingerprint), (), (None, None), ((), loaded.manifest.preprocess.image_size))
    with open_backend(loaded, device, precision, engines=None if engines is None else Path(engines)) as backend:
        renewals: list[Renewal] = []

        def change(bank: Bank) -> Bank:
            renewed, renewal = renewed_bank(bank, loaded, backend, prompts=prompts)
            renewals.append(renewal)
            return renewed

        file.renew(change)
    return renewals[0]


def renewed_bank(old: Bank, bundle: Bundle, backend: Backend, *, prompts: PromptTable | None = None) -> tuple[Bank, Renewal]:
    """A bank's classes, taught again with another bundle from the pictures that it keeps, or from the name alone as before.

    A prompt is kept where both bundles encode texts alike; else it is made anew, of the class's description where it has one.
    Strengths are what enrolment would choose, but for a strength of 0, by which a user ignores a name. Thresholds that a user
    had set are kept where the features are the same, which tells that cosines are.

    Args:
        old: the bank, of any bundle.
        bundle, backend: the new one, and what runs it.
        prompts: as `renew` takes them.

    Raises:
        BankError, PromptError, BundleError, BackendError: as `renew`.
    """
    found = _prompts(old, bundle, prompts)
    preprocess = bundle.manifest.preprocess
    features = Features(bundle, backend)
    teacher = Teacher(bundle, features)
    new, sides = replace(Bank.empty(bundle), fit=old.fit), set[int]()
    order: list[int] = []
    for name, prompt in found.items():
        row = old.rows[name]
        rows = np.flatnonzero(old.owners == row)
        order += rows.tolist()
        strength = 0.0 if old.strengths[row] == 0 and old.bundle_strength > 0 else None
        if old.by_name[row]:
            learn, _ = teacher.by_name(name, prompt, strength=strength)
            new = learn(new)
            continue
        pictures = [decode_crop(crop) for crop in old.crops[rows]]
        sides |= {len(picture) for picture in pictures}
        shown, crops = _resized(pictures, preprocess), old.crops[rows].tolist()
        if name in old.rejects:
            new = new.add_reject(old.rejects[name], features.queries(list(shown)), crops)
            continue
        encoded = features.shots(shown, prompt.vector)
        new = new.add(
            name,
            prompt.vector,
            encoded.support,
            encoded.query,
            crops,
            strength=strength,
            familiarity=teacher.known(prompt),
            description=prompt.description,
        )
    cosines = _cosines(old, new, order)
    same = cosines is not None and bool(cosines.min(initial=1) >= SAME)
    thresholds = old.thresholds if same else np.full_like(old.thresholds, np.nan)
    new = replace(new, thresholds=thresholds, version=old.version + 1)
    classes = tuple(_class(old, new, name, prompt, cosines) for name, prompt in found.items())
    return new, Renewal(
        (old.fingerprint, new.fingerprint),
        classes,
        (left_out(old), left_out(new)),
        (tuple(sorted(sides)), preprocess.image_size),
    )


def _prompts(old: Bank, bundle: Bundle, given: PromptTable | None) -> dict[str, Prompt]:
    """The new prompt of each class, a reject's that of its class; what fails is said of all names at once."""
    if given is not None:
        bundle.prompts.with_table(given)  # refuses one that was made in another way
    alike = old.text == bundle.manifest.text
    empty = Bank.empty(bundle)
    found: dict[str, Prompt] = {}
    failed: list[PromptError] = []
    with closing(Namer(bundle)) as namer:
        for name, row in old.rows.items():
            if name in old.rejects:
                continue
            sentences = old.descriptions.get(name)
            try:
                if given is not None and name in given:
                    found[name] = Prompt.of_table(given, name, "given")
                elif alike:
                    found[name] = Prompt(old.prompts[row], "bank", sentences or ())
                elif sentences is not None and bundle.prompts.descriptions.get(name) != sentences:
                    found[name] = namer.prompt(empty, name, sentences)
                else:
                    found[name] = namer.prompt(empty, name)
            except PromptError as error:
                failed.append(error)
    if failed:
        first = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise PromptError(first.what + more, expected=first.expected, got=first.got, next_step=first.next_step) from first
    return {name: found[old.rejects.get(name, name)] for name in old.names}


def _resized(pictures: Sequence[NDArray[np.uint8]], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Crops at the size that the network sees, whole: they were cut before."""
    return np.stack([replace(preprocess, resize_ratio=1.0)(picture) for picture in pictures])


def _cosines(old: Bank, new: Bank, order: Sequence[int]) -> NDArray[np.float64] | None:
    """The least cosine of each shot's features, in the new order; None where they cannot be compared."""
    if old.support.shape[1:] != new.support.shape[1:]:
        return None
    both = [row_cosines(new.query, old.query[list(order)]), row_cosines(new.support, old.support[list(order)])]
    return np.asarray(np.minimum(*both), np.float64)


def _class(old: Bank, new: Bank, name: str, prompt: Prompt, cosines: NDArray[np.float64] | None) -> RenewedClass:
    before, after = old.rows[name], new.rows[name]
    return RenewedClass(
        name,
        new.shots(name),
        prompt.source,
        (float(old.strengths[before]), float(new.strengths[after])),
        (_threshold(old, before), _threshold(new, after)),
        None if cosines is None else float(cosines[new.owners == after].min()),
    )


def _threshold(bank: Bank, row: int) -> float | None:
    value = float(bank.thresholds[row])
    return None if math.isnan(value) else value


def _pair(values: Sequence[Any]) -> dict[str, Any]:
    return {"old": values[0], "new": values[1]}
