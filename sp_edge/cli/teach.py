"""The command that teaches a device: enroll."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sp_edge.cli.common import PATH, Command, backend_options, bank_beside, bank_option, json_option, split_bundle
from sp_edge.errors import BankError, PromptError

_SOURCES = {
    "description": "of the description",
    "bank": "the class's own",
    "table": "of the name, from the bundle",
    "text encoder": "of the name, encoded here",
    "given": "of --prompts",
}


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@click.option("--name", required=True, help="Of the class, as a person would say it, such as 'coffee mug'.")
@bank_option
@click.option("--description", "sentences", multiple=True, help="Sentence that stands for the name; several are averaged.")
@click.option(
    "--prompts", "extra", type=PATH, metavar="FILE", multiple=True, help="Further class names, from `sp-edge prompts --out`."
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    help="Of the name against all the class's pictures; 0 ignores it.  [default: the class's own, "
    "of a new one the bundle's, less where the name tells the model little]",
)
@click.option(
    "--views", default=1, show_default=True, type=click.IntRange(1, 50), help="Crops that stand for each shot, with it."
)
@click.option("--force", is_flag=True, help="Keep shots that are dark, overexposed, empty, blurred or copies.")
@json_option("the class's strength and what the shots say")
@backend_options
def enroll(
    arguments: tuple[Path, ...],
    name: str,
    bank_file: Path | None,
    sentences: tuple[str, ...],
    extra: tuple[Path, ...],
    strength: float | None,
    views: int,
    force: bool,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Teach a class from one to five pictures.

    PICTURES are files, or folders of them. A name that the bundle does not know is encoded by the text encoder that the
    bundle carries. A class that was taught before gets further shots; `sp-edge bank undo` takes the last change back.

    \b
    Examples:
      sp-edge enroll --name unicycle one.jpg two.jpg
      sp-edge enroll model.spedge mug/ --name "coffee mug" --description "a cup with a handle" --bank shop.spbank
    """
    from sp_edge.files import write_json
    from sp_edge.preprocess import load_image, pictures_at
    from sp_edge.prompts.familiarity import LITTLE
    from sp_edge.prompts.table import PromptTable, clean_name
    from sp_edge_runtime.naming import Prompt
    from sp_edge_runtime.recognizer import Recognizer

    if extra and sentences:
        raise PromptError("--prompts and --description both say what the prompt is", expected="one of them")
    path, places = split_bundle(arguments)
    files = pictures_at(places)
    images = [load_image(file) for file in files]
    bank_file = bank_file or bank_beside(path)
    with Recognizer.load(path, bank=bank_file, **options) as recognizer:
        known = recognizer.bundle.prompts
        if extra:
            for file in extra:
                known = known.with_table(PromptTable.load(file))
            prompt = Prompt.of_table(known, name, "given")
        else:
            prompt = recognizer.prompt(name, sentences or None)
        source = _SOURCES[prompt.source]
        if prompt.source == "description" and name in known:
            source += ", in place of the bundle's own"
        if not force and (problems := recognizer.problems(name, images)):
            raise BankError(
                f"{len(problems)} of {len(files)} pictures would teach '{name}' little or nothing",
                expected="sharp pictures, each another view",
                got="; ".join(f"{files[problem.shot]}: {problem}" for problem in problems[:5]),
                next_step="leave them out, or keep them with --force",
            )
        recognizer.enroll(name, images, prompt=prompt, strength=strength, views=views)
        bank = recognizer.bank
        click.echo(f"taught '{name}' from {len(images)} picture{'s' * (len(images) != 1)}, {bank.shots(name)} in all")
        click.echo(f"prompt: {source}")
        click.echo(f"bundle: {path}, {recognizer.backend.description}")
        click.echo(f"bank: {bank_file} with {len(bank.names)} classes")
        familiarity = recognizer.familiarity(prompt.vector)
        counts = float(bank.strengths[bank.rows[clean_name(name)]])
        if familiarity < LITTLE and strength is None:
            click.echo(
                f"what '{name}' is called tells this model little (familiarity {familiarity:.3f}): at strength {counts:.3f} "
                f"its pictures decide; it knows names such as '{known.names[0]}' and '{known.names[len(known.names) // 2]}'"
            )
        report = recognizer.advice()
        for line in report.lines():
            click.echo(line)
        if json_file:
            taught = {"name": clean_name(name), "familiarity": familiarity, "strength": counts}
            write_json(json_file, {"taught": taught, **report.to_json()})
