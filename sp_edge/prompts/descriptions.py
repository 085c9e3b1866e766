"""Reads descriptions of classes: sentences that say more than a name does."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from sp_edge.errors import PromptError
from sp_edge.prompts.table import clean_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SENTENCE = 2000
Descriptions = Mapping[str, Sequence[str]]


class _Pairs(list[tuple[str, object]]):
    """An object of JSON as it stands in the file, where a name may stand twice; a list of pairs is none."""


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Class name -> its sentences, from a JSON or TOML file that gives one sentence or a list of them to each name.

    Raises:
        PromptError: unreadable, of another form, or a name stands twice in different spellings.
    """
    try:
        content = path.read_text("utf-8-sig")
        rows = (
            _Pairs(tomllib.loads(content).items()) if path.suffix == ".toml" else json.loads(content, object_pairs_hook=_Pairs)
        )
    except (OSError, ValueError, RecursionError) as cause:
        raise PromptError(f"cannot read {path}", expected="a JSON or TOML file in UTF-8", got=str(cause)) from cause
    descriptions: dict[str, tuple[str, ...]] = {}
    for row in rows if isinstance(rows, _Pairs) else [None]:
        match row:
            case (str(written), str(sentence)):
                sentences = [sentence]
            case (str(written), [*sentences]) if sentences and all(isinstance(s, str) for s in sentences):
                pass
            case _:
                raise PromptError(
                    f"{path} does not hold descriptions", expected='{"class name": "a sentence" or ["several", ...]}',
                    got=repr(rows if row is None else row)[:200],
                )  # fmt: skip
        name = clean_name(written)
        if name in descriptions:
            raise PromptError(f"{path} names a class twice", expected="each class once", got=name)
        descriptions[name] = tuple(map(clean_sentence, sentences))
    return descriptions


def clean_sentence(sentence: str) -> str:
    """A sentence with single spaces.

    Raises:
        PromptError: no text, empty, longer than 2000 characters, or with control characters.
    """
    if not isinstance(sentence, str):
        raise PromptError("a description is text", expected="a sentence, or several in a list", got=repr(sentence)[:80])
    spaced = " ".join(unicodedata.normalize("NFC", sentence).split())
    if len(spaced) > MAX_SENTENCE:
        raise PromptError(
            "a description is too long",
            expected=f"at most {MAX_SENTENCE} characters",
            got=f"{len(spaced)}: {spaced[:40]}...",
            next_step="give several shorter sentences; their vectors are averaged",
        )
    if not spaced or any(unicodedata.category(c) in ("Cc", "Cs") for c in spaced):
        raise PromptError("a description cannot be used", expected="a sentence in printable text", got=repr(sentence[:80]))
    return spaced


def check_length(sentence: str, tokens: int, limit: int | None) -> None:
    """Refuses a sentence whose end the encoder would not read.

    Raises:
        PromptError: more tokens than the limit.
    """
    if limit is not None and tokens > limit:
        raise PromptError(
            f"the text encoder would not read the end of '{sentence[:60]}...'",
            expected=f"at most {limit} tokens",
            got=str(tokens),
            next_step="give several shorter sentences; their vectors are averaged",
        )
