import pytest

from sp_edge.errors import SettingsError
from sp_edge.settings.encoders import ENCODERS, FILES, NETWORKS
from sp_edge.settings.settings import TextSettings


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_can_be_set_as_its_row_says(name: str) -> None:
    kind = ENCODERS[name]
    path = "vectors.txt" if kind.is_file else ""
    assert TextSettings(name, path).encoder == name
    with pytest.raises(SettingsError, match=r"text\.path"):
        TextSettings(name, "" if kind.is_file else "vectors.txt")
    if not kind.encodes:
        with pytest.raises(SettingsError, match=r"text\.descriptions"):
            TextSettings(name, path, descriptions="names.toml")


def test_an_encoder_is_a_network_or_a_file() -> None:
    assert set(NETWORKS) | set(FILES) == set(ENCODERS)
    assert not set(NETWORKS) & set(FILES)
    assert all(ENCODERS[name].dim for name in NETWORKS), "a network's width is known before it is loaded"


def test_an_unknown_encoder_is_refused_by_name() -> None:
    with pytest.raises(SettingsError) as refused:
        TextSettings("bert")
    assert refused.value.expected == " | ".join(ENCODERS)
