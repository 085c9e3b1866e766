from __future__ import annotations

import timm

from sp_edge.model.ready import KNOWN
from sp_edge.model.ready.google import PACKAGES
from sp_edge.model.ready.registry import DEFAULT


def test_what_is_listed_is_what_timm_and_the_packages_say() -> None:
    listed = {entry.model: entry for entry in KNOWN}
    assert next(iter(listed)) == DEFAULT
    assert set(PACKAGES) <= set(listed)
    for name, packaged in PACKAGES.items():
        assert listed[name].image_size == packaged.image_size
    for name, entry in listed.items():
        if name.startswith("timm/"):
            config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
            assert (config.license.lower(), config.input_size[-1]) == (entry.license.lower(), entry.image_size)
            assert (config.num_classes == 1000) == (entry.names == "yes")


def test_the_sizes_are_those_of_the_networks_without_a_classifier() -> None:
    for entry in KNOWN[:3]:
        network = timm.create_model(f"tf_{entry.model}", num_classes=0)
        assert round(sum(value.numel() for value in network.parameters()) / 1e6, 1) == entry.parameters
