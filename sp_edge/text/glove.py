"""Word vectors in a text file, as GloVe's are published: a sentence is the mean of its words' vectors."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import PromptError
from sp_edge.files import sha256
from sp_edge.prompts.reading import Reading

_log = logging.getLogger(__name__)
Vector = NDArray[np.float32]
_DIGITS = 64  # of one number, at most
_LINE = 1 << 18  # bytes of one line, at most: a word and its vector


class GloVe:
    """Encodes sentences with a file of lines 'word v1 ... vT' in UTF-8, plain or gzipped.

    A word is looked up as it is written, then in lower case, then by its parts ('T-shirt,' as 't' and 'shirt'). Words that
    the file does not have are left out of the mean, and logged.

    Args:
        path: such as glove.6B.300d.txt.
        template: that names are put into; its own words do not make a name known.
    """

    name = "glove"

    def __init__(self, path: Path, template: str = "{name}") -> None:
        self._path = path
        self._common = set(template.replace("{name}", " ").split())
        try:
            self.revision = sha256(path)[:12]
            with _open(path) as file:
                first = next(_lines(file, path), b"").rstrip().split(b" ")
        except (OSError, EOFError, zlib.error) as cause:
            raise PromptError(f"cannot read {path}", expected="a text file of word vectors", got=str(cause)) from cause
        self.dim = len(first) - 1
        if self.dim < 2:
            got = b" ".join(first)[:60].decode(errors="replace")
            raise PromptError(f"{path} does not begin with a word vector", expected="'word v1 v2 ... vT'", got=repr(got))

    def encode(self, sentences: Sequence[str]) -> Vector:
        """Means of word vectors: n texts -> float32 (n, T).

        Raises:
            PromptError: a sentence has no known word, or the file is damaged.
        """
        words = dict.fromkeys(word for sentence in sentences for word in sentence.split())
        vectors = self._look_up({part for word in words for spelling in _spellings(word) for part in spelling})
        known = {word: _first_known(_spellings(word), vectors) for word in words}
        strange = [s for s in sentences if not any(known[word] for word in s.split() if word not in self._common)]
        if strange:
            raise PromptError(
                f"{self._path} knows no word of {len(strange)} of {len(sentences)} names",
                expected="at least one known word in each",
                got="; ".join(sentence[:60] for sentence in strange[:10]),
                next_step="spell them in common words, or describe these classes (text.descriptions)",
            )
        if left_out := [word for word in words if not known[word]]:
            _log.warning(f"the prompts leave out words that {self._path.name} does not know: {', '.join(left_out)}")
        means = [np.mean([vector for word in s.split() for vector in known[word]], axis=0) for s in sentences]
        return np.array(means, np.float32).reshape(len(sentences), self.dim)

    def reading(self, text: str) -> Reading:
        """All of it: `encode` refuses a sentence without a known word, and logs the words that it leaves out."""
        del text
        return Reading()

    def _look_up(self, wanted: set[str]) -> dict[str, Vector]:
        """Vectors of those words that the file has; it is read once, and only as far as needed."""
        left = {word.encode() for word in wanted}
        found: dict[str, Vector] = {}
        try:
            with _open(self._path) as file:
                for number, line in enumerate(_lines(file, self._path), 1):
                    if not left:
                        break
                    if line.partition(b" ")[0].rstrip() not in left:
                        continue
                    word, *numbers = line.rstrip().rsplit(b" ", self.dim)
                    if word in left:  # else it is one of the few words with blanks in them
                        left.remove(word)
                        found[word.decode()] = self._numbers(numbers, number)
        except (OSError, EOFError, zlib.error) as cause:
            raise PromptError(f"cannot read {self._path}", expected="a text file of word vectors", got=str(cause)) from cause
        return found

    def _numbers(self, numbers: Sequence[bytes], line: int) -> Vector:
        try:
            # Millions of digits would keep float() busy for minutes.
            with np.errstate(over="ignore"):  # too large a number is infinite, and refused as such
                vector = np.array([float(number[:_DIGITS]) for number in numbers], np.float32)
        except ValueError:
            vector = np.array([np.nan], np.float32)
        odd = any(len(number) > _DIGITS or b"_" in number for number in numbers)  # to Python, 1_0 is 10
        if odd or len(vector) != self.dim or not np.isfinite(vector).all():
            raise PromptError(
                f"{self._path}, line {line} is no word vector",
                expected=f"{self.dim} numbers",
                got=repr(b" ".join(numbers)[:60]),
            )
        return vector


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines(file: gzip.GzipFile | BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines of a file; one without an end, which would fill the memory, is refused."""
    while line := file.readline(_LINE):
        if len(line) == _LINE:
            raise PromptError(
                f"{path} is no file of word vectors", expected=f"lines of less than {_LINE:,} bytes", got=repr(line[:40])
            )
        yield line


def _spellings(word: str) -> tuple[Sequence[str], ...]:
    """Ways to look a word up, each as the parts whose vectors are averaged."""
    return (word,), (word.lower(),), re.findall(r"[^\W_]+", word.lower())


def _first_known(spellings: Iterable[Sequence[str]], vectors: dict[str, Vector]) -> list[Vector]:
    for spelling in spellings:
        if known := [vectors[part] for part in spelling if part in vectors]:
            return known
    return []
