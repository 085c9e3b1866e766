"""What a bank's file holds: tensors, and what describes them.

A key or tensor that this version does not know is left alone, so that later versions may add notes; what would change the
meaning of the others raises the schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sp_edge.bank.contents import Contents
from sp_edge.bank.crops import pack, unpack
from sp_edge.errors import BankError, PromptError
from sp_edge.prompts.table import TextSpec, descriptions_from_json
from sp_edge.tensors import load_tensors, save_tensors

SCHEMA = 5
LEAST_STRENGTH = 1e-6  # of a bundle that takes prompts, by which features are divided
CLASS_PARTS = ("prompts", "thresholds", "strengths")  # the arrays with a row a class
SHOT_PARTS = ("support", "query", "owners", "crops")  # the arrays with a row a shot
PARTS = CLASS_PARTS + SHOT_PARTS
CROP_ENDS = "crop_ends"  # crops stand one after the other, and this says where each ends


def packed(bank: Contents) -> dict[str, NDArray[Any]]:
    """A bank's arrays as a file holds them."""
    crops, ends = pack(bank.crops)
    return {part: getattr(bank, part) for part in PARTS} | {"crops": crops, CROP_ENDS: ends}


def write_parts(path: Path, bank: Contents) -> None:
    """Writes what `read_parts` reads, atomically."""
    described = {
        "kind": "bank",
        "schema": SCHEMA,
        "fingerprint": bank.fingerprint,
        "names": bank.names,
        "descriptions": bank.descriptions,
        "version": bank.version,
        "bundle_strength": bank.bundle_strength,
        "text": bank.text.to_json(),
        "rejects": bank.rejects,
        "fit": bank.fit,
    }
    save_tensors(path, packed(bank), described)


def read_parts(path: Path) -> dict[str, Any]:
    """What a bank's file holds, as `Bank` takes it; whether the parts fit together is for `Bank` to say.

    Raises:
        BankError: damaged, not a bank, or of another schema.
    """
    tensors, described = load_tensors(path, BankError)
    names, version, strength = (described.get(key) for key in ("names", "version", "bundle_strength"))
    fingerprint = described.get("fingerprint")
    if described.get("kind") != "bank":
        raise BankError(f"{path} is not a bank", expected="a file that `sp-edge enroll` wrote")
    schema = described.get("schema")
    if schema != SCHEMA:
        later = isinstance(schema, int) and schema > SCHEMA
        raise BankError(
            f"{path} has another schema",
            expected=str(SCHEMA),
            got=repr(schema)[:80],
            next_step="update sp-edge: a later version wrote it"
            if later
            else "move it away, then teach its classes again from your own pictures: sp-edge enroll --from FOLDER",
        )
    if (
        not (isinstance(names, list) and all(isinstance(name, str) for name in names))
        or not (isinstance(version, int) and isinstance(fingerprint, str))
        or not (isinstance(strength, int | float) and (strength == 0 or LEAST_STRENGTH <= strength <= 1))
    ):
        raise BankError(f"{path} is not a bank", expected="names, a version, a fingerprint, a strength of 0 to 1")
    rejects = described.get("rejects", {})  # which earlier versions did not write
    if not isinstance(rejects, dict) or not all(isinstance(told, str) for told in rejects.values()):
        raise BankError(f"{path} is not a bank", expected="rejects: name -> class", got=repr(rejects)[:80])
    missing = {*PARTS, CROP_ENDS} - set(tensors)
    if missing:
        raise BankError(
            f"{path} is not a bank", expected=", ".join((*PARTS, CROP_ENDS)), got=f"no {', '.join(sorted(missing))}"
        )
    try:
        descriptions = descriptions_from_json(described.get("descriptions"))
        text = TextSpec.from_json(described.get("text"))
    except PromptError as cause:
        raise BankError(f"{path} is not a bank", expected=cause.expected, got=cause.got) from cause
    return {
        "fingerprint": fingerprint,
        "names": tuple(names),
        "version": version,
        "bundle_strength": float(strength),
        "text": text,
        "descriptions": descriptions,
        "rejects": rejects,
        "fit": described.get("fit", "crop"),  # which earlier versions did not write
        **{part: tensors[part] for part in PARTS},
        "crops": unpack(tensors["crops"], tensors[CROP_ENDS]),
    }
