"""The command that encodes class names and descriptions: prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.arguments import find_checkpoint, means_bundle
from sp_edge.cli.common import Command
from sp_edge.cli.shared import PATH, json_option
from sp_edge.errors import PromptError, SettingsError

if TYPE_CHECKING:
    from sp_edge.prompts.table import PromptTable
    from sp_edge.settings.settings import TextSettings


@click.command(cls=Command)
@click.argument("names", nargs=-1)
@click.option("--names-file", type=PATH, metavar="FILE", help="Encode the names in this text file, one a line.")
@click.option(
    "--descriptions",
    "described",
    type=PATH,
    metavar="FILE",
    help="Read descriptions from a JSON or TOML file: name = sentence, or a list of sentences.",
)
@click.option(
    "--description", "sentences", multiple=True, help="Describe the one name by this sentence. Repeat it to average several."
)
@click.option("--out", type=PATH, metavar="FILE", help="Write the table to this file.  [default: only print]")
@click.option("--like", type=PATH, help="Make prompts for this bundle or checkpoint.  [default: the newest run's]")
@click.option(
    "--vectors",
    type=PATH,
    metavar="FILE",
    help="Read the vectors of a glove or file encoder from here.  [default: where they were in training]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="text.NAME=VALUE",
    help="Make a first table, before any training. Repeat it for several settings.",
)
@json_option("names, descriptions and encoder")
def prompts(
    names: tuple[str, ...],
    names_file: Path | None,
    described: Path | None,
    sentences: tuple[str, ...],
    out: Path | None,
    like: Path | None,
    vectors: Path | None,
    overrides: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Encode class names or descriptions as prompts.

    Use it for classes that a bundle does not know yet. Without names it lists the known ones. With --descriptions alone it
    encodes the classes of that file.

    Give the result to `enroll --prompts` or `export --prompts`. A bundle that carries its text encoder (--like) needs no
    torch. With --set, such as --set text.encoder=clip, the table is for a later training with text.encoder=file. There,
    text.norm=0 takes the mean length of all vectors.

    \b
    Examples:
      sp-edge prompts
      sp-edge prompts unicycle "door key" --out names.safetensors
    """
    from sp_edge.files import write_json
    from sp_edge.prompts.descriptions import clean_sentence, read_descriptions

    every = [*names, *names_in(names_file)]
    descriptions = read_descriptions(described) if described else {}
    if described and not every:
        every = list(descriptions)
    wanted = _clean(every, descriptions if described else None)
    if sentences:
        if len(wanted) != 1 or described:
            raise PromptError("--description describes one class", expected="one name", got=", ".join(wanted[:5]) or "none")
        descriptions = {wanted[0]: tuple(map(clean_sentence, sentences))}
    if overrides:
        if like or vectors or not wanted:
            raise SettingsError("--set makes a first table", expected="names, without --like and --vectors (set text.path)")
        from sp_edge.text import prompt_table

        made = prompt_table(wanted, _settings(overrides), base=wanted, descriptions=descriptions or None)
    else:
        known = _known(like, vectors, wanted, descriptions)
        made = known.only(wanted) if wanted else known
    if out:
        made.save(out)
    click.echo(f"{len(made.names)} names, {made.text.encoder}, '{made.text.template}', {made.text.dim} numbers each")
    for name in made.names:
        click.echo(f"  {name}" + (f": {' '.join(made.descriptions[name])}" if name in made.descriptions else ""))
    if out:
        click.echo(f"prompts: {out}")
    if json_file:
        rows = [{"name": name, "descriptions": made.descriptions.get(name, ())} for name in made.names]
        write_json(json_file, {"text": made.text.to_json(), "classes": rows})


def names_in(file: Path | None) -> list[str]:
    """The names in a text file, one a line; none where there is no file."""
    if file is None:
        return []
    try:
        return [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as cause:
        raise PromptError(f"cannot read {file}", expected="a UTF-8 text file", got=str(cause)) from cause


def _clean(names: list[str], descriptions: dict[str, tuple[str, ...]] | None) -> tuple[str, ...]:
    """Each name once, in its one spelling; a file of descriptions must be of use to one of them."""
    from sp_edge.prompts.table import clean_name

    clean = tuple(dict.fromkeys(map(clean_name, names)))
    if descriptions is not None and not any(name in descriptions for name in clean):
        raise PromptError(
            "the file describes none of the classes", expected=", ".join(clean[:3]), got=", ".join(list(descriptions)[:3])
        )
    return clean


def _settings(overrides: tuple[str, ...]) -> TextSettings:
    from sp_edge.settings.settings import Settings

    for override in overrides:
        if not override.strip().startswith("text."):
            raise SettingsError("prompts depend on the settings of text alone", expected="text.NAME=VALUE", got=override)
    return Settings.load("folder", overrides).text


def _known(
    like: Path | None, vectors: Path | None, names: tuple[str, ...], descriptions: dict[str, tuple[str, ...]]
) -> PromptTable:
    """The prompts of a bundle or checkpoint, with those of `names` made in the same way where it has none."""
    import dataclasses

    from sp_edge.bundle.bundle import Bundle
    from sp_edge.settings.encoders import FILES
    from sp_edge.settings.settings import Settings

    if like is not None and means_bundle(like):
        bundle = Bundle.load(like)
        known, settings = bundle.prompts, Settings.from_mapping(bundle.manifest.training.get("settings", {})).text
        if bundle.manifest.text_encoder is not None and not vectors:
            from sp_edge_runtime.text import TextEncoder

            encoder = TextEncoder(bundle.read, bundle.manifest.text_encoder, bundle.manifest.text)
            new = [name for name in names if name not in known or name in descriptions]
            return known.with_table(encoder.table(new, descriptions))
    else:
        from sp_edge.training.checkpoint import Checkpoint

        checkpoint = Checkpoint.load(find_checkpoint(like))
        known, settings = checkpoint.prompts, checkpoint.settings.text
    if known.text.encoder not in FILES:
        if vectors:
            raise SettingsError("the encoder takes no file of vectors", expected="no --vectors", got=known.text.encoder)
        return _extended(known, names, None, descriptions)
    return _extended(known, names, dataclasses.replace(settings, path=str(vectors)) if vectors else settings, descriptions)


def _extended(
    known: PromptTable, names: tuple[str, ...], settings: TextSettings | None, descriptions: dict[str, tuple[str, ...]]
) -> PromptTable:
    from sp_edge.text import extend_table

    return extend_table(known, names, settings, descriptions=descriptions)
