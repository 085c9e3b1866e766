"""The command that teaches a device: enroll."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from sp_edge.cli.arguments import bank_beside, refuse_idle, split_bundle
from sp_edge.cli.common import Command, refuse_unreadable, unreadable
from sp_edge.cli.shared import PATH, backend_options, bank_option, crop_option, json_option, prompts_option
from sp_edge.columns import counted
from sp_edge.errors import BankError, DataError, ImageError, PromptError
from sp_edge.view import Fit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sp_edge.view import Region
    from sp_edge_runtime.naming import Prompt
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.teaching import Taught

_SOURCES = {
    "description": "of the description",
    "bank": "the class's own",
    "table": "of the name, from the bundle",
    "text encoder": "of the name, encoded here",
    "given": "of --prompts",
}
_SHOWN = 5  # pictures that do not look like their name
_ALONE = 0.05  # strength below which a class's pictures decide practically alone


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, type=PATH, metavar="[BUNDLE] PICTURES...")
@click.option(
    "--name",
    help="Name the class, as a person would say it, such as 'coffee mug'. Without PICTURES, teach it by its name alone.",
)
@click.option("--not", "rejected", metavar="NAME", help="Teach what is not of this taught class: what looks so is unknown.")
@click.option(
    "--from", "folder", type=PATH, metavar="FOLDER", help="Teach a class from each folder in this one, FOLDER/<class>/."
)
@bank_option
@click.option("--description", "sentences", multiple=True, help="Describe the class in a sentence; several are averaged.")
@prompts_option
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    help="Set how much the name counts beside one picture, 0 to 1; 0 ignores it.  [default: the class's own; "
    "of a new class the bundle's, less where the model does not know such names]",
)
@click.option(
    "--views",
    default=1,
    show_default=True,
    type=click.IntRange(1, 50),
    help="Make this many crops of each picture, itself included.",
)
@crop_option
@click.option(
    "--fit",
    type=click.Choice(get_args(Fit)),
    help="Choose how a picture becomes the network's square. crop cuts it out of the middle; squash takes all and lets the "
    "sides shrink unequally; pad takes all and fills up with gray. The bank keeps it.  [default: the bank's; at first, crop]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Keep pictures that are small, dark, overexposed, empty, blurred or copies, or lie outside of what is looked at.",
)
@json_option("each class's strength and what the pictures say")
@backend_options
def enroll(
    arguments: tuple[Path, ...],
    name: str | None,
    rejected: str | None,
    folder: Path | None,
    bank_file: Path | None,
    sentences: tuple[str, ...],
    extra: tuple[Path, ...],
    strength: float | None,
    views: int,
    region: Region | None,
    fit: Fit | None,
    force: bool,
    json_file: Path | None,
    device: str,
    precision: str | None,
    engines: Path | None,
) -> None:
    """Teach a class from one to five pictures, or by its name alone.

    PICTURES are files, or folders of them. A name that the bundle does not know is encoded by the text encoder that the
    bundle carries. A class that was taught before gets further pictures. `sp-edge bank undo` takes the last change back.

    Without PICTURES the class is known by its name alone, where the bundle knows such names. Its first pictures take the
    name's place. Pictures of what is wrongly taken for a class are taught with --not.

    Teach many classes at once with --from: every folder in FOLDER is a class. All of them are taught in one step, or none.
    Pictures of a folder that cannot be read are skipped and named; the exit code is 2 then. If one that you name by its file
    cannot be read, nothing is taught.

    \b
    Examples:
      sp-edge enroll --name unicycle one.jpg two.jpg
      sp-edge enroll model.spedge mug/ --name "coffee mug" --description "a cup with a handle" --bank shop.spbank
      sp-edge enroll --name hammer
      sp-edge enroll --not unicycle bicycles/
      sp-edge enroll --from shelf
    """
    from sp_edge.bank.bank import reject_name
    from sp_edge_runtime.recognizer import Recognizer

    if extra and sentences:
        raise PromptError("--prompts and --description both say what the prompt is", expected="one of them")
    path, places = split_bundle(arguments)
    if sum(given is not None for given in (name, rejected, folder)) != 1:
        expected = "one of --name NAME PICTURES, --name NAME, --not NAME PICTURES, --from FOLDER"
        raise DataError("nothing says what is to be taught, or several do", expected=expected)
    if rejected is not None:
        refuse_idle(click.get_current_context(), ("sentences", "extra", "strength"), "--not", "--name or --from")
    if name is not None and not places:
        refuse_idle(click.get_current_context(), ("views", "region", "fit", "force"), "a name alone", "PICTURES")
    shots = _shots(name or rejected, folder, places, described=bool(sentences), nameable=name is not None)
    bank_file = bank_file or bank_beside(path)
    broken: dict[str, str] = {}
    with Recognizer.load(path, bank=bank_file, device=device, precision=precision, engines=engines, fit=fit) as recognizer:
        shots = _spelled(recognizer, shots)
        if rejected is not None:
            rejected = next(iter(shots))
            read = _read(recognizer, {reject_name(rejected): shots[rejected]}, broken, places, region, force=force)
            _reject(recognizer, rejected, read, views, region)
            prompts: dict[str, Prompt] = {}
            taught: tuple[Taught, ...] = ()
        else:
            prompts = _prompts(recognizer, list(shots), extra, sentences or None, strict=folder is None)
            if name is not None and not places:
                name = next(iter(shots))
                taught = (recognizer.enroll_by_name(name, prompt=prompts[name], strength=strength),)
            else:
                read = _read(recognizer, shots, broken, places, region, force=force)
                taught = recognizer.enroll_many(read, prompts=prompts, strength=strength, views=views, region=region)
        count = sum(map(len, shots.values()))
        shots = {name: [file for file in files if str(file) not in broken] for name, files in shots.items()}
        if taught:
            _tell(recognizer, shots, prompts)
        click.echo(f"bundle: {path}, {recognizer.backend.description}")
        click.echo(f"bank: {bank_file} with {counted(len(recognizer.bank.classes), 'class')}")
        _report(recognizer, taught, shots, prompts, strength, json_file)
    refuse_unreadable(broken, "were not taught from", of=count)


def _shots(
    name: str | None, folder: Path | None, places: tuple[Path, ...], *, described: bool, nameable: bool
) -> dict[str, list[Path]]:
    """Class -> its pictures; where a class is `nameable`, it may have none."""
    from sp_edge.data.folder import labelled
    from sp_edge.picture_files import pictures_at, pictures_of_class

    if folder is None:
        if nameable and not places:
            return {name or "": []}
        found = pictures_at(
            places, lambda place: pictures_of_class(place, f"sp-edge enroll --from {place}, if each is a class")
        )
        if note := found.told(*places):
            click.echo(note, err=True)
        return {name or "": list(found.files)}
    if places or described:
        got = "--description" if described else " ".join(map(str, places))
        raise DataError(
            "--from FOLDER has classes and pictures of its own", expected="neither PICTURES nor --description", got=got
        )
    listing = labelled(folder)
    for note in listing.notes:
        click.echo(note, err=True)
    shots: dict[str, list[Path]] = {taught: [] for taught in listing.class_names}
    for label, picture in zip(listing.labels.tolist(), listing.pictures, strict=True):
        shots[listing.class_names[label]].append(Path(picture))
    return shots


def _spelled(recognizer: Recognizer, shots: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """The pictures of each class by the one spelling of its name: the bank's, or else the first that stands here."""
    from sp_edge.prompts.spelling import spelling_key
    from sp_edge.prompts.table import clean_name

    bank = recognizer.bank
    found: dict[str, list[Path]] = {}
    first: dict[str, str] = {}
    for name, files in shots.items():
        own = bank.spelling(name)
        if own in bank.rows and own != clean_name(name):
            click.echo(f"'{clean_name(name)}' counts as the bank's class '{own}'")
        elif own not in bank.rows and (own := first.setdefault(spelling_key(name), own)) != clean_name(name):
            click.echo(f"'{clean_name(name)}' is '{own}' in another spelling: one class")
        found[own] = [*found.get(own, []), *files]
    return found


def _prompts(
    recognizer: Recognizer, names: Sequence[str], extra: tuple[Path, ...], sentences: Sequence[str] | None, *, strict: bool
) -> dict[str, Prompt]:
    """Class -> its prompt; with `strict`, --prompts must know it or the bundle must."""
    from sp_edge.prompts.table import PromptTable
    from sp_edge_runtime.naming import Prompt

    known = recognizer.bundle.prompts
    for file in extra:
        known = known.with_table(PromptTable.load(file))

    def prompt(name: str) -> Prompt:
        given = extra and (strict or name in known)
        return Prompt.of_table(known, name, "given") if given else recognizer.prompt(name, sentences)

    return {name: prompt(name) for name in names}


def _read(
    recognizer: Recognizer,
    shots: Mapping[str, Sequence[Path]],
    broken: dict[str, str],
    named: Collection[Path],
    region: Region | None,
    *,
    force: bool,
) -> Iterator[tuple[str, list[NDArray[np.uint8]]]]:
    """Each class with its pictures; those that cannot be read are kept in `broken`.

    Args:
        named: what the user named; a file among it has to be readable.

    Raises:
        ImageError: such a file cannot be read.
        DataError: no picture at all can be read.
        BankError: pictures would teach little, after the last class; nothing is taught then.
    """
    from tqdm import tqdm

    from sp_edge.pictures import load_image

    def load(file: Path) -> NDArray[np.uint8] | None:
        try:
            return load_image(file)
        except ImageError as error:
            if file in named:
                raise
            unreadable(broken, file, error)
            return None

    found, elsewhere = [], False
    for name, files in tqdm(shots.items(), desc="reading", leave=False, disable=len(shots) == 1 or None):
        read = [(file, image) for file in files if (image := load(file)) is not None]
        images = [image for _, image in read]
        for problem in () if force else recognizer.problems(name, images, region=region):
            found.append(f"{read[problem.shot][0]}: {problem}")
            elsewhere |= problem.what == "outside" or (problem.what == "small" and region is not None)
        if images:
            yield name, images
    refuse_unreadable(broken if len(broken) == sum(map(len, shots.values())) else {}, "nothing is taught")
    if found:
        about = f"'{next(iter(shots))}'" if len(shots) == 1 else "their classes"
        raise BankError(
            f"{len(found)} of {counted(sum(map(len, shots.values())), 'picture')} would teach {about} little or nothing",
            expected="sharp pictures, each another view",
            got="; ".join(found[:5]),
            next_step=f"leave them out{', look at more of them with --crop or --fit' * elsewhere}, or keep them with --force",
        )


def _reject(
    recognizer: Recognizer,
    name: str,
    read: Iterable[tuple[str, list[NDArray[np.uint8]]]],
    views: int,
    region: Region | None,
) -> None:
    """Teaches what a class is not, and says so."""
    from sp_edge.prompts.table import clean_name

    ((title, images),) = read
    recognizer.enroll_not(name, images, views=views, region=region)
    told = f"{counted(len(images), 'picture')}, {recognizer.bank.shots(title)} in all"
    click.echo(f"taught what is not '{clean_name(name)}' from {told}: what is most like it is unknown")


def _tell(recognizer: Recognizer, shots: Mapping[str, Sequence[Path]], prompts: Mapping[str, Prompt]) -> None:
    """Says what was taught, from which pictures."""
    from sp_edge.prompts.table import clean_name

    bank, count = recognizer.bank, sum(map(len, shots.values()))
    told, (first, *others) = f"from {counted(count, 'picture')}", [name for name in shots if shots[name] or not count]
    if others:
        click.echo(f"taught {len(others) + 1} classes {told}")
    elif count:
        click.echo(f"taught '{clean_name(first)}' {told}, {bank.shots(first)} in all")
    else:
        click.echo(f"taught '{clean_name(first)}' by its name alone: its first pictures take the name's place")
    for source, classes in Counter(prompts[name].source for name in (first, *others)).items():
        replaced = source == "description" and first in recognizer.bundle.prompts
        click.echo(
            f"prompt: {_SOURCES[source]}"
            + (", in place of the bundle's own" if replaced else "")
            + (f" ({counted(classes, 'class')})" if others else "")
        )


def _report(
    recognizer: Recognizer,
    taught: Sequence[Taught],
    shots: Mapping[str, Sequence[Path]],
    prompts: Mapping[str, Prompt],
    strength: float | None,
    json_file: Path | None,
) -> None:
    """Says what the names do, and what the bank's shots say."""
    from sp_edge.files import write_json
    from sp_edge.prompts.familiarity import LITTLE

    bank, described, unlike = recognizer.bank, [], []
    files = [each for each in shots.values() if each]
    for place, one in enumerate(taught):
        row = bank.rows[one.name]
        counts, by_name = float(bank.strengths[row]), bool(bank.by_name[row])
        described.append({**asdict(one), "strength": counts, "by_name": by_name})
        unlike += [f'Nothing in {files[place][number]} looks like a "{one.name}".' for number in one.unlike if counts]
        if prompts[one.name].reading.unreadable:
            so = "so its pictures decide alone" if counts < _ALONE else "so its name tells nothing, whatever its strength"
            click.echo(f'The text encoder cannot read "{one.name}", {so}.')
        elif one.unread:
            click.echo(f'The text encoder reads only a part of "{one.name}". It does not know: {" ".join(one.unread)}')
        elif one.familiarity < LITTLE and (strength is None or by_name):
            if by_name:
                so = "so that it will hardly recognize this one: add a picture"
            elif counts < _ALONE:
                so = "so its pictures decide alone"
            else:
                so = f"so it counts less than usual (strength {counts:.2f})"
            click.echo(f'The model does not know names like "{one.name}", {so}.')
    for line in unlike[:_SHOWN]:
        click.echo(line)
    if len(unlike) > _SHOWN:
        click.echo(
            f"The same holds of {len(unlike) - _SHOWN} more pictures (--json FILE has how much each looks like its name)."
        )
    report = recognizer.advice()
    for line in report.lines():
        click.echo(line)
    if json_file:
        write_json(json_file, {"taught": described, **report.to_json()})
