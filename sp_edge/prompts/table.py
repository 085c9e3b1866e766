"""The class-prompt table: names and the text vectors that steer the encoding of their support pictures."""

from __future__ import annotations

import difflib
import itertools
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import PromptError
from sp_edge.prompts.invisible import without_idle_joiners, without_unseen
from sp_edge.tensors import load_tensors, read_tensors, save_tensors

MAX_NAME = 512


def clean_name(name: str) -> str:
    """The one spelling of a class name: NFC Unicode, single spaces, no underscores, nothing that cannot be seen.

    Raises:
        PromptError: no text, empty, longer than 512 characters, or with control characters.
    """
    if not isinstance(name, str):
        raise PromptError("a class name is text", expected="such as 'coffee mug'", got=repr(name)[:80])
    return _cleaned(name)


def is_stored_name(name: str) -> bool:
    """Whether a file may hold this name: it is clean, or was so for earlier versions, which let pass what cannot be seen."""
    try:
        return isinstance(name, str) and _checked(_spaced(name)) == name
    except PromptError:
        return False


@lru_cache(maxsize=1 << 14)
def _cleaned(name: str) -> str:
    return _checked(_spaced(without_idle_joiners(_spaced(without_unseen(name)))))


def _spaced(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())


@lru_cache(maxsize=1 << 14)  # a bank checks all of its names at every change
def _checked(spaced: str) -> str:
    if all(unicodedata.category(c) in ("Cf", "Zs") for c in spaced):  # empty, or nothing but joiners and direction marks
        raise PromptError("a class needs a name", expected="at least one visible character", got=repr(spaced))
    if len(spaced) > MAX_NAME:
        raise PromptError(
            "a class name is too long", expected=f"at most {MAX_NAME} characters", got=f"{len(spaced)}: {spaced[:40]}..."
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in spaced):
        raise PromptError("a class name holds control characters", expected="printable text", got=repr(spaced))
    return spaced


@dataclass(frozen=True)
class TextSpec:
    """How names were turned into vectors. Vectors of different specs must not meet in one network.

    Attributes:
        encoder: the text encoder's name.
        revision: digest of the encoder's weights; empty where none have been used.
        template: the sentence, with `{name}`.
        norm: the length of every vector.
        dim: T, how many numbers a vector has.
    """

    encoder: str
    revision: str
    template: str
    norm: float
    dim: int

    def to_json(self) -> dict[str, Any]:
        """As manifests and checkpoints record it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> TextSpec:
        """Reads `to_json`.

        Raises:
            PromptError: a field is missing or of the wrong kind.
        """
        kinds: dict[str, Any] = {"encoder": str, "revision": str, "template": str, "norm": (int, float), "dim": int}
        if not isinstance(value, dict) or not all(isinstance(value.get(k), kind) for k, kind in kinds.items()):
            raise PromptError("not the description of a text encoder", expected=", ".join(kinds), got=repr(value)[:200])
        return cls(**{k: value[k] for k in kinds})


@dataclass(frozen=True, eq=False)
class PromptTable:
    """Names and vectors, row by row.

    Attributes:
        text: how the vectors were made.
        names: n distinct clean names.
        vectors: float32 (n, T), as they enter the prompt's projectors.
        descriptions: of some of the names, the sentences that were encoded in the template's place.
    """

    text: TextSpec
    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.shape != (len(self.names), self.text.dim) or self.vectors.dtype != np.float32:
            raise PromptError(
                "the prompt table does not fit together",
                expected=f"float32 ({len(self.names)}, {self.text.dim})",
                got=f"{self.vectors.dtype} {self.vectors.shape}",
            )
        if not all(map(is_stored_name, self.names)):
            raise PromptError("a name in the prompt table is not spelt as clean_name spells it", expected="clean names")
        if len(set(self.names)) != len(self.names):
            raise PromptError("a name stands twice in the prompt table", expected="distinct names")
        if not np.isfinite(self.vectors).all():
            raise PromptError("a prompt is not finite", expected="finite numbers")
        if not set(self.descriptions) <= set(self.names):
            raise PromptError("the prompt table describes a class that it does not hold", expected="descriptions of its names")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._rows

    def _key(self, name: str) -> str:
        """The name as a row has it: as it is where it is stored so, and clean otherwise."""
        clean = clean_name(name)
        return name if name in self._rows else clean

    def vector(self, name: str) -> NDArray[np.float32]:
        """The prompt of one class: float32 (T,).

        Raises:
            PromptError: the name is not in the table; the nearest names are listed.
        """
        clean = self._key(name)
        if clean not in self._rows:
            near = self.near(clean)
            raise PromptError(
                f"the prompt table has no class '{clean[:80]}'",
                expected=f"one of its {len(self.names)} names" + (f", such as {', '.join(near)}" if near else ""),
                next_step=f"sp-edge prompts {shlex.quote(clean)} --out names.safetensors, then add --prompts names.safetensors",
            )
        return np.asarray(self.vectors[self._rows[clean]])

    def near(self, name: str) -> list[str]:
        """Up to three names of the table that are spelt like this one, the nearest first."""
        return difflib.get_close_matches(clean_name(name), self.names, n=3, cutoff=0.4)

    def select(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The prompts of several classes: float32 (len(names), T)."""
        return np.stack([self.vector(name) for name in names]) if names else np.empty((0, self.text.dim), np.float32)

    def only(self, names: Sequence[str]) -> PromptTable:
        """The table of these names alone, in their order.

        Raises:
            PromptError: a name is not in the table.
        """
        clean = tuple(dict.fromkeys(map(self._key, names)))
        described = {name: self.descriptions[name] for name in clean if name in self.descriptions}
        return PromptTable(self.text, clean, self.select(clean), described)

    def with_table(self, other: PromptTable) -> PromptTable:
        """Both tables in one; where both know a name, `other` counts.

        A table without names whose encoder has not been seen yet, as an imported checkpoint brings it, becomes `other`.

        Raises:
            PromptError: made by different encoders, templates or norms.
        """
        if not self.names and not self.text.revision:
            seen = replace(self.text, revision=other.text.revision, norm=self.text.norm or other.text.norm)
            anything = self.text.encoder == "file" and self.text.dim == other.text.dim  # a file says itself who made it
            if seen == other.text or anything:
                return other
        if other.text != self.text:
            raise PromptError(
                "the prompt tables were made in different ways",
                expected=str(self.text.to_json()),
                got=str(other.text.to_json()),
            )
        kept = self.only([name for name in self.names if name not in other._rows])
        return PromptTable(
            self.text,
            kept.names + other.names,
            np.concatenate([kept.vectors, other.vectors]),
            {**kept.descriptions, **other.descriptions},
        )

    def save(self, path: Path) -> None:
        """Writes the table as one safetensors file, atomically."""
        described = {"kind": "prompts", "text": self.text.to_json(), "names": self.names, "descriptions": self.descriptions}
        save_tensors(path, {"vectors": self.vectors}, described)

    @classmethod
    def load(cls, path: Path) -> PromptTable:
        """Reads what `save` wrote.

        Raises:
            PromptError: damaged, or not a prompt table.
        """
        return cls._of(path, *load_tensors(path, PromptError))

    @classmethod
    def read(cls, content: bytes, name: str) -> PromptTable:
        """As `load`, from a file's content; `name` is for messages."""
        return cls._of(name, *read_tensors(content, name, PromptError))

    @classmethod
    def _of(cls, file: object, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> PromptTable:
        names = metadata.get("names")
        if metadata.get("kind") != "prompts" or "vectors" not in tensors or not isinstance(names, list):
            raise PromptError(f"{file} is not a prompt table", expected="a file that `sp-edge prompts` wrote")
        if not all(isinstance(name, str) for name in names):
            raise PromptError(f"{file} is not a prompt table", expected="names that are text")
        descriptions = descriptions_from_json(metadata.get("descriptions", {}))
        return cls(TextSpec.from_json(metadata.get("text")), tuple(names), tensors["vectors"], descriptions)


def class_vectors(
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    names: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    template: str,
) -> NDArray[np.float32]:
    """What stands for each class before lengths are made equal: float32 (n, T).

    That is the vector of the template with the class's name in it, or the mean of the vectors of its descriptions.

    Args:
        encode: k sentences -> float32 (k, T).
        names: n clean names.
        descriptions: of some of them.
        template: with `{name}`.
    """
    sentences = [descriptions.get(name, (template.replace("{name}", name),)) for name in names]
    encoded = encode([sentence for several in sentences for sentence in several])
    starts = np.cumsum([0, *map(len, sentences)])
    means = [encoded[a:b].mean(axis=0) for a, b in itertools.pairwise(starts)]
    return np.array(means, np.float32).reshape(len(names), encoded.shape[1])


def rescaled(vectors: NDArray[np.float32], names: Sequence[str], norm: float) -> NDArray[np.float32]:
    """The vectors of `names`, float32 (n, T), each at the length `norm`.

    Raises:
        PromptError: a vector is zero.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not lengths.all():
        raise PromptError(f"the vector of '{names[int(lengths.argmin())]}' is zero", expected="a vector with a direction")
    return (vectors * (norm / lengths)[:, None]).astype(np.float32)


def descriptions_from_json(value: object) -> dict[str, tuple[str, ...]]:
    """Class name -> sentences, as a file records them.

    Raises:
        PromptError: of another form.
    """
    if not isinstance(value, dict) or not all(
        isinstance(sentences, list) and sentences and all(isinstance(s, str) for s in sentences) for sentences in value.values()
    ):
        raise PromptError("not descriptions of classes", expected="a list of sentences for each name", got=repr(value)[:200])
    return {name: tuple(sentences) for name, sentences in value.items()}
