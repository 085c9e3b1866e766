from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restated import random_state, shapes
from sp_edge.errors import CheckpointError, InputError
from sp_edge.model import build_network
from sp_edge.model.official import load, official_names, recognize
from sp_edge.settings.settings import ModelSettings

# One of their files: visformer_tiny with spatial and channel prompts, CLIP, 64 base classes.
ENTRIES, PARAMETERS = 211, 10_797_360


def empty(**of: Any) -> dict[str, torch.Tensor]:
    """Tensors of a file's shapes that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes(**of).items()}


def test_the_restated_file_is_as_large_as_theirs() -> None:
    weights = empty()
    assert len(weights) == ENTRIES
    counted = [v for n, v in weights.items() if not n.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert sum(v.numel() for v in counted) == PARAMETERS


@pytest.mark.parametrize(
    ("of", "model"),
    [
        ({}, {}),
        ({"text_dim": 300, "mode": "spatial", "projector": "mlp"}, {"interaction": "spatial", "projector": "mlp"}),
        ({"stage": 2, "projector": "mlp3"}, {"layer": "2-0", "projector": "mlp3"}),
        ({"mode": "none", "classes": 0}, {"interaction": "none"}),
        ({"grids": (21, 10, 5), "small_stem": True}, {"backbone": "visformer_tiny_84", "image_size": 84}),
        ({"grids": (10, 5, 2)}, {"image_size": 84}),
    ],
    ids=str,
)
def test_their_names_are_all_of_a_networks(of: dict[str, Any], model: dict[str, Any]) -> None:
    theirs = shapes(**of)
    network = build_network(ModelSettings(**model), of.get("text_dim", 512))
    names = official_names(network)
    assert set(names) == {name for name in theirs if not name.startswith("head.")}
    own = network.state_dict()
    assert {name: tuple(own[ours].shape) for name, ours in names.items()} == {name: theirs[name] for name in names}


@pytest.mark.parametrize(
    ("of", "shown"),
    [
        ({}, ("visformer_tiny", (28, 14, 7), ("both", "channel"), 3, "linear", 512)),
        ({"text_dim": 300, "projector": "mlp"}, ("visformer_tiny", (28, 14, 7), ("both", "channel"), 3, "mlp", 300)),
        ({"stage": 2, "mode": "spatial"}, ("visformer_tiny", (28, 14, 7), ("spatial",), 2, "linear", 512)),
        ({"mode": "none"}, ("visformer_tiny", (28, 14, 7), ("none",), None, "linear", None)),
        (
            {"grids": (21, 10, 5), "small_stem": True, "projector": "mlp3"},
            ("visformer_tiny_84", (21, 10, 5), ("both", "channel"), 3, "mlp3", 512),
        ),
    ],
)
def test_names_and_shapes_show_the_network(of: dict[str, Any], shown: tuple[Any, ...]) -> None:
    found = recognize(empty(**of))
    assert (found.backbone, found.grids, found.interactions, found.stage, found.projector, found.text_dim) == shown


@pytest.mark.parametrize(
    ("of", "default", "every"),
    [
        ({}, 224, [224, 226, 228, 230]),
        ({"grids": (10, 5, 2)}, 84, [84, 80, 82, 86]),
        ({"grids": (21, 10, 5), "small_stem": True}, 84, [84, 85, 86, 87]),
        ({"grids": (12, 6, 3)}, 96, [96, 98, 100, 102]),
    ],
)
def test_the_picture_size_follows_from_the_grids(of: dict[str, Any], default: int, every: list[int]) -> None:
    found = recognize(empty(**of))
    assert found.settings(ModelSettings(image_size=32), ()).image_size == default
    assert [s for s in range(32, 300) if found.settings(ModelSettings(image_size=s), ()).image_size == s] == sorted(every)


def test_the_small_size_is_known_by_its_width() -> None:
    weights = empty()
    for stage, width in ((1, 192), (2, 384), (3, 768)):
        side = weights[f"pos_embed{stage}"].shape[-1]
        weights[f"pos_embed{stage}"] = torch.zeros(1, width, side, side)
    for name in ("t2i.weight", "t2i2.weight"):
        weights[name] = torch.zeros(768, 512)
    found = recognize(weights)
    assert (found.backbone, found.stage) == ("visformer_small", 3)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pos_embed1": torch.zeros(1, 97, 28, 28)}, "unknown size"),
        ({"pos_embed2": torch.zeros(1, 192, 14, 13)}, "square"),
        ({"pos_embed3": torch.zeros(384)}, "square"),
        ({"pos_embed2": torch.zeros(1, 192, 13, 13)}, "fit no picture"),
        ({"pos_embed1": torch.zeros(1, 96, 0, 0)}, "fit no picture"),
        ({"t2i.weight": torch.zeros(385, 512)}, "fits neither stage"),
        ({"t2i.weight": torch.zeros(384)}, "no matrix"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(change: dict[str, torch.Tensor], what: str) -> None:
    with pytest.raises(CheckpointError, match=what):
        recognize({**empty(), **change})


@pytest.mark.parametrize("name", ["pos_embed1", "pos_embed3", "t2i.weight"])
def test_without_these_nothing_can_be_recognized(name: str) -> None:
    weights = empty()
    del weights[name]
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        recognize(weights)


NAMES = st.sampled_from([*shapes(), "t2i.0.weight", "t2i.2.weight", "t2i.4.weight", "stem.3.weight", "log_tau", "x"])


@given(st.dictionaries(NAMES, st.lists(st.sampled_from([0, 1, 2, 96, 192, 384, 512]), max_size=5), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_shapes_are_recognized_or_refused(changed: dict[str, list[int]]) -> None:
    weights = empty() | {name: torch.zeros(()).expand(shape) for name, shape in changed.items()}
    try:
        recognize(weights).settings(ModelSettings(), ("layer", "image_size"))
    except InputError:
        return


def test_loading_leaves_a_network_alone_when_it_refuses() -> None:
    network = build_network(ModelSettings(image_size=84), 512)
    before = network.backbone.pos_embed1.clone()
    weights = random_state(shapes(grids=(10, 5, 2)))
    del weights["norm.bn.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing: norm\.bn\.weight"):
        load(network, weights)
    assert torch.equal(network.backbone.pos_embed1, before)
