"""What `sp-edge export` refuses before any work, and what it makes of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import toy
import toy_plans
from sp_edge.bundle.bundle import Bundle
from sp_edge.cli import formats, ship
from sp_edge.cli.ship import export
from sp_edge.engines import plans
from sp_edge.engines.device import Device
from sp_edge_export.engines import policy
from sp_edge_runtime.recognizer import Recognizer
from triton_stand_in import Served

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("option", [("--batch", 3), ("--workspace", 2), ("--target", "rtx"), ("--batch", 1)])
def test_an_option_that_would_do_nothing_is_refused(call: Call, option: tuple[str, object]) -> None:
    code, out, err = call("export", *option)
    assert (code, out) == (2, "")
    said = f"error: {option[0]} does nothing with --format onnx\n  expected: another --format, or no {option[0]}\n"
    assert err.startswith(said)


def test_every_option_of_a_format_exists_and_every_format_too() -> None:
    names = {parameter.name for parameter in export.params}
    assert set(formats.APPLIES) <= names
    assert {form for forms in formats.APPLIES.values() for form in forms} <= set(formats.FORMATS)
    chosen = next(parameter for parameter in export.params if parameter.name == "form")
    assert isinstance(chosen.type, click.Choice)
    assert list(chosen.type.choices) == list(formats.FORMATS)


def test_pictures_are_of_no_use_to_fp32(call: Call, tmp_path: Path) -> None:
    code, _, err = call("export", tmp_path / "checkpoint.safetensors", "--data", tmp_path)
    assert code == 2
    assert "--data does nothing with --precision fp32\n  expected: another --precision, or no --data" in err


@pytest.mark.parametrize("precision", [(), ("--precision", "fp16")])
def test_force_is_for_int8_alone(
    call: Call, toy_bundle: Path, precision: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "FORMATS", {"engine": lambda *_: lambda *_: pytest.fail("made")})
    code, _, err = call("export", toy_bundle, "--format", "engine", "--force", *precision)
    assert code == 2
    assert f"--force does nothing with --precision {precision[1] if precision else 'fp32'}" in err


def test_engines_are_for_triton_with_plans_alone(call: Call, taught: Path) -> None:
    code, _, err = call("export", taught, "--format", "triton", "--engines", taught.parent)
    assert code == 2
    assert "--engines does nothing" in err
    assert not taught.with_name("triton").exists()


def test_a_bundle_as_it_is_is_refused(call: Call, toy_bundle: Path) -> None:
    code, _, err = call("export", toy_bundle)
    assert code == 2
    assert "is a bundle already" in err


@pytest.mark.parametrize("option", [("--out", "x"), ("--data", "."), ("--prompts", "p"), ("--max-drop", 0.5), ("--opset", 19)])
def test_what_makes_graphs_does_nothing_with_a_bundle(
    call: Call, toy_bundle: Path, option: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FORMATS", {})
    monkeypatch.setattr(ship, "FORMATS", {"engine": lambda *_: lambda *_: pytest.fail("made")})
    code, _, err = call("export", toy_bundle, "--format", "engine", *option)
    assert code == 2
    assert f"{option[0]} does nothing with a bundle" in err
    assert f"expected: a checkpoint, or no {option[0]}" in err


@pytest.mark.parametrize(("given", "precision"), [((), "fp32"), (("--precision", "fp16"), "fp16")])
def test_a_format_gets_the_bundle_and_the_options(
    call: Call, toy_bundle: Path, given: tuple[str, ...], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Path, str, object]] = []

    def prepare(options: dict[str, object], _where: Path) -> formats.Make:
        return lambda bundle, chosen: made.append((bundle.path, chosen, options["batch"]))

    monkeypatch.setattr(ship, "FORMATS", {"engine": prepare})
    code, _, err = call("export", toy_bundle, "--format", "engine", "--batch", 4, *given)
    assert code == 0, err
    assert made == [(toy_bundle, precision, 4)]
    assert Bundle.load(toy_bundle)


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    """A bundle with a bank beside it that knows red and green."""
    bundle = toy.make_bundle(tmp_path / "shop.spedge")
    with Recognizer.load(bundle, device="cpu") as recognizer:
        for name in ("red", "green"):
            recognizer.enroll(name, [toy.picture(name)])
        recognizer.bank.save(tmp_path / "classes.spbank")
    return bundle


def test_a_repository_for_triton(call: Call, taught: Path) -> None:
    code, out, err = call("export", taught, "--format", "triton", "--batch", 4)
    folder = taught.with_name("triton")
    assert (code, err) == (0, "")
    assert out == f"triton: {folder}, version 1 of the head, by prototype; all models\n"
    image = toy.picture("green", seed=3)[None]
    assert Served(folder).infer("sp_edge", {"image": image})["label"].tolist() == [["green"]]
    code, out, _ = call("export", taught, "--format", "triton", "--batch", 4)
    assert out == f"triton: {folder}, version 2 of the head, by prototype; the encoders are those that were there\n"


def test_the_command_of_the_repository_writes_the_next_head_alone(call: Call, taught: Path) -> None:
    chosen = ("--classifier", "lr", "--batch", 3)
    code, out, _ = call("export", taught, "--format", "triton", *chosen)
    folder = taught.with_name("triton")
    assert (code, out) == (0, f"triton: {folder}, version 1 of the head, by lr; all models\n")
    line = next(line for line in (folder / "README.md").read_text().splitlines() if "--format triton" in line)
    arguments = line.replace("BUNDLE", str(taught)).replace("HERE", str(folder)).split()[1:]
    code, out, _ = call(*arguments)
    assert (code, out) == (0, f"triton: {folder}, version 2 of the head, by lr; the encoders are those that were there\n")


def test_a_repository_with_plans(call: Call, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "here", lambda *_: toy_plans.DEVICE)
    monkeypatch.setattr(policy, "load_tensorrt", lambda _: SimpleNamespace(__version__="10.3.0"))
    monkeypatch.setattr(plans, "default_folder", lambda: tmp_path / "engines")
    arguments = ("export", taught, "--format", "triton", "--plans", "--folder", tmp_path / "repository")
    code, _, err = call(*arguments)
    assert code == 2
    assert "none was built" in err
    assert not (tmp_path / "repository").exists()
    for graph in ("query", "support"):
        toy_plans.put(
            Bundle.load(taught), tmp_path / "engines", toy_plans.DEVICE, graph=graph, max_batch=8, content=graph.encode()
        )
    assert call(*arguments)[0] == 0
    assert (tmp_path / "repository/sp_edge_query/1/model.plan").read_bytes() == b"query"


def test_a_folder_for_deepstream(call: Call, taught: Path, tmp_path: Path) -> None:
    code, out, _ = call("export", taught, "--format", "deepstream", "--folder", tmp_path / "ds", "--classifier", "lr")
    assert (code, out) == (0, f"deepstream: {tmp_path / 'ds'}, by lr\n")
    assert "classifier `lr`" in (tmp_path / "ds/README.md").read_text()
    assert (tmp_path / "ds/labels.txt").read_text() == "red;green;unknown\n"


@pytest.mark.parametrize("form", ["triton", "deepstream"])
def test_what_a_server_lacks_is_known_before_the_bundle_is_made(call: Call, taught: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "run").mkdir()
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"  # there is none: who opens it has begun the work
    code, _, err = call("export", checkpoint, "--format", form)
    assert code == 2
    assert f"no bank at {checkpoint.with_name('classes.spbank')}" in err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    bank = taught.parent / "classes.spbank"
    code, _, err = call("export", checkpoint, "--format", form, "--bank", bank, "--folder", tmp_path / "full")
    assert code == 2
    assert "thesis.txt" in err
    code, _, err = call("export", checkpoint, "--format", form, "--bank", bank)
    assert code == 2
    assert "checkpoint.safetensors" in err


@pytest.mark.parametrize("form", ["triton", "deepstream"])
def test_servers_need_taught_classes(call: Call, toy_bundle: Path, tmp_path: Path, form: str) -> None:
    code, _, err = call(
        "export", toy_bundle, "--format", form, "--bank", tmp_path / "none.spbank", "--folder", tmp_path / "out"
    )
    assert code == 2
    assert f"no bank at {tmp_path / 'none.spbank'}" in err
    assert "expected: a file of taught classes" in err
    assert "next: sp-edge enroll --name NAME PICTURES" in err
    assert not (tmp_path / "out").exists()
