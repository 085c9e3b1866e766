"""Makes tables of class prompts: names or descriptions are encoded, and all vectors get one length."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.columns import shortened
from sp_edge.errors import PromptError, SettingsError
from sp_edge.prompts.descriptions import Descriptions, read_descriptions
from sp_edge.prompts.reading import same_vectors
from sp_edge.prompts.table import PromptTable, TextSpec, class_vectors, clean_name, rescaled
from sp_edge.settings.encoders import ENCODERS
from sp_edge.settings.settings import TextSettings
from sp_edge.text.clip import CLIP
from sp_edge.text.encoder import TextEncoder
from sp_edge.text.glove import GloVe
from sp_edge.text.minilm import MiniLM
from sp_edge.text.sentence import SBERT
from sp_edge.text.vectors import read_vectors

_log = logging.getLogger(__name__)


def prompt_table(
    names: Sequence[str],
    settings: TextSettings,
    *,
    base: Sequence[str] = (),
    descriptions: Descriptions | None = None,
    given: Collection[str] = (),
) -> PromptTable:
    """The prompt of every class, in the order of `names`.

    A class is encoded as the template with its name in it, or as the mean of its descriptions. Then every vector is rescaled
    to `settings.norm`, or, where that is 0, to the mean length of the vectors of `base`.

    Args:
        names: of all classes; spellings of one name count once.
        base: names of the training classes, among `names`.
        descriptions: clean name -> sentences; by default what `settings.descriptions` holds.
        given: as in `encoded_table`.

    Raises:
        PromptError: a name that cannot be one, or that the encoder or the file of vectors does not know; a file that cannot
            be used; the encoder's weights are not here.
        MissingExtraError: the encoder's package is not installed.
    """
    clean = tuple(dict.fromkeys(map(clean_name, names)))
    if not ENCODERS[settings.encoder].encodes:
        if descriptions:
            raise PromptError(
                "descriptions need a text encoder",
                expected=", ".join(name for name, kind in ENCODERS.items() if kind.encodes),
                got=settings.encoder,
            )
        return _from_file(clean, settings, base)
    if descriptions is None:
        descriptions = read_descriptions(Path(settings.descriptions)) if settings.descriptions else {}
        if settings.descriptions and not any(name in descriptions for name in clean):
            raise PromptError(
                f"{settings.descriptions} describes none of the classes",
                expected=f"names such as {', '.join(clean[:3])}",
                got=", ".join(list(descriptions)[:3]),
            )
    return encoded_table(_encoder(settings), clean, settings, base=base, descriptions=descriptions, given=given)


def encoded_table(
    encoder: TextEncoder,
    names: Sequence[str],
    settings: TextSettings,
    *,
    base: Sequence[str] = (),
    descriptions: Descriptions | None = None,
    given: Collection[str] = (),
) -> PromptTable:
    """As `prompt_table`, by an encoder that is open already, whatever `settings.encoder` says.

    Names that it cannot read, and names that come out with one and the same prompt, are logged. Of the names `given`, which
    come with a network, only what they share with others is.
    """
    clean = tuple(dict.fromkeys(map(clean_name, names)))
    descriptions = descriptions or {}
    used = {name: tuple(descriptions[name]) for name in clean if name in descriptions}
    means = class_vectors(encoder.encode, clean, used, settings.template)
    vectors, norm = _equalise(means, clean, settings.norm, base)
    theirs = set(map(clean_name, given))
    _tell_alike(encoder, [name for name in clean if name not in used and name not in theirs], clean, vectors, theirs)
    return PromptTable(TextSpec(encoder.name, encoder.revision, settings.template, norm, encoder.dim), clean, vectors, used)


def _tell_alike(
    encoder: TextEncoder, read: Sequence[str], names: Sequence[str], vectors: NDArray[np.float32], given: Collection[str]
) -> None:
    """Logs which of the names `read` the encoder does not know, and which of all names have one prompt, float32 (n, T)."""
    unread = [name for name in read if encoder.reading(name).unreadable]
    if unread:
        _log.warning(
            f"the text encoder {encoder.name} cannot read {len(unread)} of {len(names)} names, which therefore tell nothing: "
            f"{shortened(unread)}; describe these classes (text.descriptions)"
        )
    quiet = {*unread, *given}
    same = [" = ".join(group) for group in same_vectors(names, vectors) if not quiet.issuperset(group)]
    if same:
        _log.warning(f"names with one and the same prompt, which only pictures tell apart: {shortened(same)}")


def whole_table(settings: TextSettings, *, base: Sequence[str] = ()) -> PromptTable:
    """The prompts of every name that the file of an encoder without a network holds (`text.encoder = file`).

    Raises:
        PromptError: as `prompt_table`.
    """
    content = read_vectors(Path(settings.path))
    return prompt_table(content.names if isinstance(content, PromptTable) else tuple(content), settings, base=base)


def extend_table(
    table: PromptTable,
    names: Sequence[str],
    settings: TextSettings | None = None,
    *,
    descriptions: Descriptions | None = None,
    given: Collection[str] = (),
) -> PromptTable:
    """The table with prompts for `names` added where it has none, made in the table's own way.

    Args:
        settings: that the table was made with, for what it does not record itself: where a file of vectors is.
        descriptions: clean name -> sentences; names that it holds are made anew from them.
        given: as in `encoded_table`.

    Raises:
        PromptError: the encoder here is not the one that made the table, and as in `prompt_table`.
    """
    descriptions = descriptions or {}
    wanted = [name for name in names if name not in table or clean_name(name) in descriptions]
    if not wanted:
        return table
    text = table.text
    try:
        made_by = settings or TextSettings(text.encoder)
        if made_by.encoder not in ("file", text.encoder):
            raise PromptError("the table was made with another encoder", expected=text.encoder, got=made_by.encoder)
        settings = dataclasses.replace(made_by, template=text.template, norm=text.norm, descriptions="")
    except SettingsError as cause:
        raise PromptError("the table was made in a way that is unknown here", expected=cause.expected, got=cause.got) from cause
    return table.with_table(prompt_table(wanted, settings, descriptions=descriptions, given=given))


def _encoder(settings: TextSettings) -> TextEncoder:
    if settings.encoder == "glove":
        return GloVe(Path(settings.path), settings.template)
    return open_encoder(settings.encoder)


def open_encoder(name: str) -> CLIP | SBERT | MiniLM:
    """A text encoder that is a network, by the name that `TextSettings.encoder` has for it.

    Raises:
        PromptError: no such encoder, or its weights are not here.
        MissingExtraError: its package is not installed.
    """
    encoders: dict[str, Callable[[], CLIP | SBERT | MiniLM]] = {"clip": CLIP, "sbert": SBERT, "minilm": MiniLM}
    if name not in encoders:
        raise PromptError("this text encoder is no network", expected=", ".join(encoders), got=name)
    return encoders[name]()


def _from_file(names: tuple[str, ...], settings: TextSettings, base: Sequence[str]) -> PromptTable:
    """Prompts made elsewhere: a table's as they are; bare vectors with their lengths made equal, whoever made them."""
    path = Path(settings.path)
    content = read_vectors(path)
    unknown = [name for name in names if name not in content]
    if unknown:
        raise PromptError(
            f"{path} has no vectors for {len(unknown)} of {len(names)} classes",
            expected="a vector for every class",
            got=f"none for {', '.join(unknown[:5])}" + (", ..." if unknown[5:] else ""),
        )
    if isinstance(content, PromptTable):
        return content.only(names)
    dim = len(next(iter(content.values())))
    rows = np.array([content[name] for name in names], np.float32).reshape(len(names), dim)
    vectors, norm = _equalise(rows, names, settings.norm, base)
    return PromptTable(TextSpec("file", "", settings.template, norm, dim), names, vectors)


def _equalise(
    vectors: NDArray[np.float32], names: tuple[str, ...], norm: float, base: Sequence[str]
) -> tuple[NDArray[np.float32], float]:
    """Gives every vector (n, T) the length `norm`, or for 0 the mean length of those of `base`; returns the length, too."""
    if norm == 0:
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        known = set(map(clean_name, base))
        training = [length for name, length in zip(names, lengths, strict=True) if name in known]
        if not training:
            raise PromptError(
                "text.norm = 0 takes the length of the training classes' vectors",
                expected="at least one training class among the names",
                next_step="set text.norm, or first make the training classes' table: sp-edge prompts --set text.norm=0 ...",
            )
        # Six digits: the same classes give the same number on every machine.
        norm = float(f"{np.mean(training):.6g}")
    return rescaled(vectors, names, norm), norm
