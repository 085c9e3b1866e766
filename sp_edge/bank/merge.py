"""Makes one bank of two that were taught with the same bundle."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank, reject_name
from sp_edge.bank.crops import NO_PICTURE
from sp_edge.bank.diff import SAME_PROMPT, same_prompt, shots_of
from sp_edge.bank.stored import CLASS_PARTS, SHOT_PARTS
from sp_edge.errors import BankError

Prefer = Literal["ours", "theirs"]


def merge(ours: Bank, theirs: Bank, *, prefer: Prefer | None = None) -> Bank:
    """Our bank with the classes and shots of another, too; a shot that both have is there once.

    A class that one of them knows by its name alone has the other's pictures. Our spelling of a name counts.

    Args:
        ours: whose classes come first.
        theirs: the other.
        prefer: whose threshold and strength a class gets where both have it and differ; a threshold that was set counts
            before none. Where it was taught with different prompts it is taken whole from the preferred bank, as the shots of
            two prompts do not go together.

    Returns:
        The merged bank; `ours` itself where that has it all.

    Raises:
        BankError: the banks are of two bundles, what is a class in one is a reject in the other, or, without a preference,
            classes differ; all of them are named.
    """
    if ours.fingerprint != theirs.fingerprint:
        raise BankError(
            "the banks were made with two bundles",
            expected=f"bundle {ours.fingerprint[:12]}",
            got=f"bundle {theirs.fingerprint[:12]}",
            next_step="teach the other bank's classes again with this bundle: sp-edge bank renew BUNDLE --bank OTHER",
        )
    pictured = [bank for bank in (ours, theirs) if not bank.by_name.all()]
    if len({bank.fit for bank in pictured}) > 1:
        raise BankError(
            "the banks' pictures were fitted into the network's square in two ways",
            expected=f"pictures taught with --fit {ours.fit}",
            got=f"--fit {theirs.fit}",
            next_step=f"teach the other bank's classes again from their pictures, with --fit {ours.fit}",
        )
    ours = ours.with_fit(pictured[0].fit) if pictured else ours
    theirs = _respelled(theirs, ours)
    shared = [name for name in ours.names if name in theirs.rows]
    strange = [name for name in shared if (name in ours.rejects) != (name in theirs.rejects)]
    if strange:
        got = f"{strange[0]}: in one a class, in the other what is none"
        raise BankError("the banks do not go together", expected="the same names of classes", got=got)
    other_prompt = {name for name in shared if not same_prompt(name, ours, theirs)}
    conflicts = [text for name in shared if (text := _conflict(name, ours, theirs, prompt=name in other_prompt))]
    if conflicts and prefer is None:
        raise BankError(
            f"{len(conflicts)} classes differ between the banks" if len(conflicts) > 1 else "a class differs between the banks",
            expected="the same prompt, threshold and strength in both",
            got="; ".join(conflicts),
            next_step="say which bank is preferred: --prefer ours or theirs",
        )
    kept = np.array([prefer != "theirs" or ours.names[owner] not in other_prompt for owner in ours.owners.tolist()], bool)
    kept &= ~_shown_by(theirs, ours, other_prompt)
    taken = _missing(ours, theirs, whole=other_prompt if prefer == "theirs" else set(), none=other_prompt)
    return _joined(ours, theirs, kept=kept, taken=taken, values_of_theirs=prefer == "theirs")


def _respelled(bank: Bank, like: Bank) -> Bank:
    """A bank with its names as another spells them; names that it tells apart itself stay apart."""
    names = {name: like.spelling(name) for name in bank.names if name not in bank.rejects}
    names |= {name: reject_name(names[told]) for name, told in bank.rejects.items()}
    if len(set(names.values())) < len(names):
        return bank
    return replace(
        bank,
        names=tuple(names[name] for name in bank.names),
        descriptions={names[name]: said for name, said in bank.descriptions.items()},
        rejects={names[name]: names[told] for name, told in bank.rejects.items()},
    )


def _shown_by(other: Bank, bank: Bank, other_prompt: set[str]) -> NDArray[np.bool_]:
    """Bool (M,): which shots of a bank stand for a name alone, of which the other has pictures with the same prompt."""
    shown = {name for name, by_name in zip(other.names, other.by_name.tolist(), strict=True) if not by_name} - other_prompt
    return np.array([bank.by_name[owner] and bank.names[owner] in shown for owner in bank.owners.tolist()], bool)


def _conflict(name: str, ours: Bank, theirs: Bank, *, prompt: bool) -> str:
    """In what a class differs, in words; empty where it does not."""
    mine, other = ours.rows[name], theirs.rows[name]
    differs = ["another prompt"] if prompt else []
    for what, values in (("threshold", "thresholds"), ("strength", "strengths")):
        one, two = float(getattr(ours, values)[mine]), float(getattr(theirs, values)[other])
        if one != two and not (math.isnan(one) or math.isnan(two)):
            differs.append(f"{what} {one:.3f} and {two:.3f}")
    return f"'{name}': {', '.join(differs)}" if differs else ""


def _missing(ours: Bank, theirs: Bank, *, whole: set[str], none: set[str]) -> NDArray[np.bool_]:
    """Which of their shots to take: all of the classes in `whole`, else none of those in `none`, and those we lack."""
    have = shots_of(ours)
    taken = []
    for owner, crop in zip(theirs.owners.tolist(), theirs.crops, strict=True):
        name = theirs.names[owner]
        left = have.get(name, Counter())
        known = (name in ours.rows if crop == NO_PICTURE else left[crop] > 0) and name not in whole
        left[crop] -= known
        taken.append(name in whole or not (known or name in none))
    return np.array(taken, bool)


def _joined(ours: Bank, theirs: Bank, *, kept: NDArray[np.bool_], taken: NDArray[np.bool_], values_of_theirs: bool) -> Bank:
    names = tuple(dict.fromkeys((*ours.names, *theirs.names)))
    place = {name: index for index, name in enumerate(names)}
    theirs_at = np.array([place[name] for name in theirs.names], np.int64)
    new = theirs_at >= len(ours.names)
    parts: dict[str, Any] = {}
    for part in CLASS_PARTS:
        mine, other = getattr(ours, part), getattr(theirs, part)
        parts[part] = np.concatenate([mine, other[new]])
        held = parts[part][theirs_at]
        first, second = (other, held) if values_of_theirs else (held, other)
        parts[part][theirs_at] = np.where(np.isnan(first), second, first)
    descriptions = _descriptions(names, parts["prompts"], (theirs, ours) if values_of_theirs else (ours, theirs))
    owners = np.concatenate([ours.owners[kept], theirs_at[theirs.owners[taken]]])
    for part in SHOT_PARTS:
        parts[part] = np.concatenate([getattr(ours, part)[kept], getattr(theirs, part)[taken]])
    parts["owners"] = owners
    rejects = {name: told for bank in (ours, theirs) for name, told in bank.rejects.items()}
    same = (
        kept.all()
        and not taken.any()
        and all(np.array_equal(parts[part], getattr(ours, part), equal_nan=True) for part in CLASS_PARTS)
        and descriptions == ours.descriptions
    )
    version = max(ours.version, theirs.version) + 1
    return ours if same else replace(ours, names=names, descriptions=descriptions, rejects=rejects, version=version, **parts)


def _descriptions(names: tuple[str, ...], prompts: NDArray[np.float32], banks: tuple[Bank, Bank]) -> dict[str, tuple[str, ...]]:
    """What each class's prompt was made of, by the first bank that says it of this prompt."""
    found = {}
    for name, prompt in zip(names, prompts, strict=True):
        for bank in banks:
            if name in bank.descriptions and np.allclose(bank.prompts[bank.rows[name]], prompt, atol=SAME_PROMPT):
                found[name] = bank.descriptions[name]
                break
    return found
