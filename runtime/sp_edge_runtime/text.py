"""Turns names and descriptions into prompts on the device, with the text encoder that a bundle carries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import Session
from sp_edge.bundle.text import COSINES, TextPart
from sp_edge.errors import BackendError, BundleError, PromptError
from sp_edge.matching.decide import row_cosines
from sp_edge.prompts.descriptions import check_length, clean_sentence
from sp_edge.prompts.reading import Reading, read
from sp_edge.prompts.table import PromptTable, TextSpec, class_vectors, clean_name, rescaled
from sp_edge.tensors import read_tensors

MAX_GRAPH, MAX_TOKENIZER = 1 << 30, 1 << 26  # bytes
_AGAIN = "export the bundle again, or report this"


class TextEncoder:
    """Encodes sentences as `sp_edge.text` does, through ONNX Runtime on the CPU and without torch.

    The files are opened at the first sentence, by whichever thread has it. Sentences are run one at a time: it takes
    milliseconds, and no vector depends on its neighbours, not even by rounding.

    Args:
        read: gives the content of a file of the bundle, checked.
        part: what the bundle's manifest says of its text encoder.
        text: how the bundle's prompts were made.
    """

    def __init__(self, read: Callable[[str], bytes], part: TextPart, text: TextSpec) -> None:
        self._read, self._part, self._text = read, part, text
        self._opened: tuple[Session, Any] | None = None
        self._opening = threading.Lock()
        self.description = f"{text.encoder} {part.precision}"

    @classmethod
    def of(cls, bundle: Bundle) -> TextEncoder | None:
        """The text encoder of a bundle, or None where it carries none."""
        part = bundle.manifest.text_encoder
        return None if part is None else cls(bundle.read, part, bundle.manifest.text)

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """As the encoder gives them, of any length: n texts -> float32 (n, T).

        Raises:
            PromptError: a sentence that the encoder cannot read, or not to its end.
            BundleError: a file of the encoder cannot be used.
            BackendError: ONNX Runtime failed.
        """
        session, tokenizer = self._open()
        vectors = [self._run(session, self._ids(tokenizer, sentence)) for sentence in sentences]
        return np.array(vectors, np.float32).reshape(len(sentences), self._text.dim)

    def reading(self, text: str) -> Reading:
        """What of a text, which can be encoded, the tokenizer knows."""
        return read(self._open()[1], text)

    def table(self, names: Sequence[str], descriptions: Mapping[str, Sequence[str]] | None = None) -> PromptTable:
        """The prompts of names, made in the bundle's way: from its template or from descriptions, at its length.

        Args:
            names: in any spelling; spellings of one name count once.
            descriptions: clean name -> sentences, whose vectors are averaged.

        Raises:
            PromptError: a name or sentence that cannot be one, and as `encode`.
            BundleError, BackendError: as `encode`.
        """
        clean = tuple(dict.fromkeys(map(clean_name, names)))
        used = {name: tuple(map(clean_sentence, (descriptions or {})[name])) for name in clean if name in (descriptions or {})}
        vectors = class_vectors(self.encode, clean, used, self._text.template)
        return PromptTable(self._text, clean, rescaled(vectors, clean, self._text.norm), used)

    def check(self) -> float:
        """Encodes the golden names on this machine; gives the least cosine to the prompts that were expected.

        Raises:
            BundleError: the golden names cannot be used.
            BackendError: a prompt is not the expected one.
        """
        tensors, metadata = read_tensors(self._read(self._part.golden), self._part.golden, BundleError)
        names, expected = metadata.get("names"), tensors.get("prompts")
        if (
            not (isinstance(names, list) and names and all(isinstance(name, str) for name in names))
            or expected is None
            or expected.dtype != np.float32
            or expected.shape != (len(names), self._text.dim)
        ):
            raise BundleError("the golden names do not fit together", expected=f"names, and prompts (n, {self._text.dim})")
        found = self.table(names)
        if found.names != tuple(names):
            raise BundleError("the golden names do not fit together", expected="distinct clean names", got=str(names)[:200])
        least = float(row_cosines(found.vectors, expected).min())
        if not least >= COSINES[self._part.precision]:  # so that NaN does not pass
            raise BackendError(
                "the text encoder gives other prompts here than where it was exported",
                expected=f"cosine at least {COSINES[self._part.precision]}",
                got=f"{least:.6f}",
                next_step="export again, or report the versions of ONNX Runtime and tokenizers that you use",
            )
        return least

    def close(self) -> None:
        """Gives the memory back; the next sentence opens the files anew."""
        with self._opening:
            self._opened = None

    def _ids(self, tokenizer: Any, sentence: str) -> list[int]:
        try:
            ids = list(tokenizer.encode(sentence).ids)
        except Exception as cause:  # the library raises bare Exceptions
            raise PromptError(f"the tokenizer cannot read '{sentence[:60]}'", got=str(cause)[:200]) from cause
        if not ids:
            raise PromptError(f"the text encoder reads nothing in '{sentence[:60]}'", expected="words")
        check_length(sentence, len(ids), self._part.max_tokens)
        return ids

    def _run(self, session: Session, ids: list[int]) -> NDArray[np.float32]:
        row = np.array([ids], np.int64)
        (vector,) = session.run({"ids": row, "mask": np.ones_like(row)}, ["vector"])
        if vector.shape != (1, self._text.dim) or not np.isfinite(vector).all():
            raise BackendError(
                "the text encoder gave a vector that cannot be used",
                expected=f"finite float32 (1, {self._text.dim})",
                got=f"{vector.dtype} {vector.shape}",
                next_step=_AGAIN,
            )
        return vector[0]

    def _open(self) -> tuple[Session, Any]:
        with self._opening:
            if self._opened is None:
                graph, tokenizer = self._part.graph, self._part.tokenizer
                session = open_graph(self._read(graph), graph, self._text.dim)
                self._opened = session, _open_tokenizer(self._read(tokenizer), tokenizer)
            return self._opened


def open_graph(content: bytes, name: str, dim: int) -> Session:
    """A text encoder's graph, which must give vectors of `dim` numbers.

    Raises:
        BundleError: it is the graph of something else.
        BackendError: it is no ONNX file, names others, or ONNX Runtime cannot load it.
    """
    session = Session(
        _limited(content, name, MAX_GRAPH),
        name,
        BackendError,
        threads=1,  # a stream that runs meanwhile needs the other cores more
        # Else ONNX Runtime may round the activations to eight bits, too, in a way that depends on its version and the CPU.
        settings={"session.disable_quant_qdq": "1"},
        next_step=_AGAIN,
    )
    session.check(
        {"ids": ("int64", ("N", "L")), "mask": ("int64", ("N", "L"))},
        {"vector": ("float32", ("N", dim))},
        next_step="export the bundle again",
    )
    return session


def _open_tokenizer(content: bytes, name: str) -> Any:
    try:
        tokenizer = Tokenizer.from_str(_limited(content, name, MAX_TOKENIZER).decode())
    except BundleError:  # says more
        raise
    except Exception as cause:  # the library raises bare Exceptions
        raise BundleError(f"cannot read {name}", expected="a file of the library tokenizers", got=str(cause)[:200]) from cause
    tokenizer.no_padding()
    tokenizer.no_truncation()  # what is too long is refused instead
    return tokenizer


def _limited(content: bytes, name: str, limit: int) -> bytes:
    if len(content) > limit:
        raise BundleError(f"{name} is too large", expected=f"at most {limit:,} bytes", got=f"{len(content):,}")
    return content
