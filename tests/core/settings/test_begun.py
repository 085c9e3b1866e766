from __future__ import annotations

import json
from pathlib import Path

import pytest

from sp_edge.errors import SettingsError
from sp_edge.settings.begun import Begun
from sp_edge.settings.settings import Settings

SETTINGS = Settings.from_mapping({"seed": 3, "tune": {"n_shot": [1, 5]}, "model": {"drop_path": 0.1}})


def written(folder: Path, **changes: object) -> None:
    content = {"settings": SETTINGS.to_json(), "init": None, **changes}
    (folder / "settings.json").write_text(json.dumps(content))


@pytest.mark.parametrize("init", [None, "timm", "runs/1/checkpoint.safetensors"])
def test_a_run_reads_as_it_was_written(tmp_path: Path, init: str | None) -> None:
    Begun(SETTINGS, init).write(tmp_path)
    begun = Begun.read(tmp_path)
    assert begun == Begun(SETTINGS, init)
    assert (begun.lacks, begun.filled_in(), begun.differences(begun)) == ((), "", [])


def test_what_an_earlier_version_did_not_have_takes_its_default_and_is_named(tmp_path: Path) -> None:
    earlier = SETTINGS.to_json()
    del earlier["model"]["text_share"], earlier["tune"]["patience"], earlier["expected"]
    written(tmp_path, settings=earlier)
    begun = Begun.read(tmp_path)
    assert begun == Begun(SETTINGS, None)
    assert {"model.text_share", "tune.patience", "expected.source"} < set(begun.lacks)
    assert "model.text_share = 0.5, tune.patience = 0" in begun.filled_in()


def test_a_setting_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    later = SETTINGS.to_json()
    later["tune"]["warmth"], later["lights"] = 1, {"on": True}
    written(tmp_path, settings=later)
    with pytest.raises(SettingsError, match="this version of sp-edge does not know") as raised:
        Begun.read(tmp_path)
    assert raised.value.got == "tune.warmth, lights.on"
    assert "the version that began it" in raised.value.next_step


@pytest.mark.parametrize("changes", [{"settings": None}, {"settings": []}, {"init": 3}], ids=str)
def test_a_file_of_something_else_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    written(tmp_path, **changes)
    with pytest.raises(SettingsError, match=r"settings\.json says nothing of a run"):
        Begun.read(tmp_path)


def test_differences_are_named_with_both_values() -> None:
    other = Settings.from_mapping({"seed": 4, "tune": {"n_shot": [1, 5]}, "model": {"drop_path": 0.1}})
    found = Begun(SETTINGS, None).differences(Begun(other, "timm"))
    assert found == ["seed = 4 instead of 3", "init = timm instead of None"]
