"""Finds the prompt of a class: in its description, the bank, the bundle's table, or through the bundle's text encoder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import PromptError
from sp_edge.prompts.descriptions import clean_sentence
from sp_edge.prompts.reading import Reading
from sp_edge.prompts.table import PromptTable, clean_name
from sp_edge_runtime.text import TextEncoder


@dataclass(frozen=True, eq=False)
class Prompt:
    """What steers the encoding of a class's pictures, and where it comes from.

    Attributes:
        vector: float32 (T,), as it enters the projectors.
        source: 'description'; 'bank', the class's own; 'table', the bundle's; 'text encoder', made from the name here; or
            'given', by whoever teaches.
        description: the sentences that it was made of; none where it was made of the name, or where nobody knows.
        reading: what of the name or the sentences the text encoder knows; all, where it was not asked.
    """

    vector: NDArray[np.float32]
    source: Literal["description", "bank", "table", "text encoder", "given"]
    description: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)

    @classmethod
    def of_table(cls, table: PromptTable, name: str, source: Literal["table", "given"]) -> Prompt:
        """What a table holds for a class.

        Raises:
            PromptError: it has no such class.
        """
        return cls(table.vector(name), source, tuple(table.descriptions.get(clean_name(name), ())))


def given_prompt(name: str, prompt: Prompt | NDArray[np.float32], dim: int) -> Prompt:
    """The prompt that someone gave for a class, as a `Prompt`.

    Args:
        name: of the class.
        prompt: a `Prompt`, or float32 (T,) as the prompt table holds them.
        dim: T of the bundle.

    Raises:
        PromptError: it is not finite, or not float32 (T,).
    """
    found = prompt if isinstance(prompt, Prompt) else Prompt(prompt, "given")
    vector: object = found.vector
    if not isinstance(vector, np.ndarray) or vector.shape != (dim,) or vector.dtype != np.float32:
        got = f"{vector.dtype} {vector.shape}" if isinstance(vector, np.ndarray) else type(vector).__name__
        raise PromptError(f"the prompt of '{name}' does not fit", expected=f"finite float32 ({dim},)", got=got)
    if not np.isfinite(vector).all():
        raise PromptError(f"the prompt of '{name}' does not fit", expected="finite numbers", got="others")
    return found


def unreadable(what: str, name: str, reading: Reading) -> PromptError:
    """The error that nothing can be made of a text about a class: every other unknown text would give the same prompt.

    Args:
        what: the text, in words.
        name: of the class.
        reading: of the text.
    """
    return PromptError(
        f"the text encoder cannot read {what}",
        expected="words that it knows",
        got="unknown to it: " + " ".join(reading.unread)[:80],
        next_step=f"describe it in words that it knows: sp-edge enroll --name {shlex.quote(name)} --description SENTENCE",
    )


class Namer:
    """Knows a bundle's prompts, and makes others where the bundle carries its text encoder."""

    def __init__(self, bundle: Bundle) -> None:
        self._known = bundle.prompts
        self._encoder = TextEncoder.of(bundle)

    def prompt(self, bank: Bank, name: str, description: str | Sequence[str] | None = None) -> Prompt:
        """The prompt of a class; see `Recognizer.prompt`."""
        clean = bank.spelling(name)
        if description is not None:
            several = not isinstance(description, str) and isinstance(description, Sequence)
            given = cast("Sequence[str]", description if several else [description])
            sentences = tuple(map(clean_sentence, given))
            if not sentences:
                raise PromptError(f"the description of '{clean[:80]}' is empty", expected="one sentence or several")
            vector = self._encode(clean, {clean: sentences})
            reading = self._read(" ".join(sentences))
            if reading.unreadable:
                raise unreadable(f"the description of '{clean[:80]}'", clean, reading)
            return Prompt(vector, "description", sentences, reading)
        if clean in bank.rows:
            return Prompt(bank.prompts[bank.rows[clean]], "bank", bank.descriptions.get(clean, ()))
        if clean in self._known:
            return Prompt.of_table(self._known, clean, "table")
        return Prompt(self._encode(clean), "text encoder", reading=self._read(clean))

    def close(self) -> None:
        """Gives the text encoder's memory back."""
        if self._encoder is not None:
            self._encoder.close()

    def _read(self, text: str) -> Reading:
        return Reading() if self._encoder is None else self._encoder.reading(text)

    def _encode(self, name: str, descriptions: Mapping[str, Sequence[str]] | None = None) -> NDArray[np.float32]:
        if self._encoder is not None:
            return np.asarray(self._encoder.table([name], descriptions).vectors[0])
        near = self._known.near(name)
        such_as = f", such as {', '.join(near)}" if near else ""
        raise PromptError(
            f"cannot encode the description of '{name[:80]}'" if descriptions else f"the bundle has no class '{name[:80]}'",
            expected=("" if descriptions else f"one of its {len(self._known.names)} names{such_as}, or ")
            + "a bundle that carries its text encoder",
            got="one without",
            next_step=f"sp-edge prompts {shlex.quote(name)} --out names.safetensors, then add --prompts names.safetensors; "
            "or, for every name at once, sp-edge export --with-text int8",
        )
