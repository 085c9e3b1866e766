from __future__ import annotations

from pathlib import Path

import pytest

from sp_edge.cli.training import at_work_in, recipe_and_overrides
from sp_edge.errors import SettingsError
from sp_edge.settings.settings import Settings


@pytest.mark.parametrize(
    ("recipe", "data", "expected"),
    [
        (None, None, "scenes"),
        (None, "scenes", "scenes"),
        (None, "my pictures", "folder"),
        ("scenes", "my pictures", "scenes"),
        ("mine.toml", None, "mine.toml"),
    ],
)
def test_the_recipe_follows_the_data_unless_it_is_named(recipe: str | None, data: str | None, expected: str) -> None:
    assert recipe_and_overrides(recipe, ["seed=3"], data=data, root=None)[0] == expected


def test_options_are_settings() -> None:
    assert recipe_and_overrides("scenes", ["seed=3"], data='a "b"', root=None, imgsz=96)[1] == [
        "seed=3",
        'data.source="a \\"b\\""',
        "model.image_size=96",
    ]
    with pytest.raises(SettingsError, match="say the same thing twice"):
        recipe_and_overrides("scenes", ["model.image_size=64"], data=None, root=None, imgsz=96)


def test_timms_weights_bring_the_normalization_of_the_backbone_that_is_set() -> None:
    recipe, settings = recipe_and_overrides(
        None, ["model.backbone='timm:vit_small_patch16_224'"], data=None, root=None, init=Path("timm")
    )
    assert (recipe, settings[:2]) == ("scenes", ["model.mean=[127.5, 127.5, 127.5]", "model.std=[127.5, 127.5, 127.5]"])
    asked = recipe_and_overrides("scenes", ["model.mean=[1,2,3]"], data=None, root=None, init=Path("timm"))
    assert Settings.load(*asked).model.mean == (1, 2, 3), "what is asked for expressly comes after"


@pytest.mark.parametrize(("made", "begun", "left"), [(True, False, False), (True, True, True), (False, False, True)])
def test_a_folder_that_was_made_for_nothing_goes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: bool, begun: bool, left: bool
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    def stopped() -> None:
        with at_work_in(folder, made=made, to_go_on="say it again"):
            if begun:
                (folder / "settings.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err == "\nto go on: say it again\n"
    assert folder.exists() == left
