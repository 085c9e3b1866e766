from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sp_edge.model import build_network
from sp_edge.settings.settings import ModelSettings
from sp_edge.training.pointwise import PointwiseConv2d, multiply_pointwise


def accelerator(device: str = "cpu", precision: str = "bf16") -> Any:
    return SimpleNamespace(device=torch.device(device), mixed_precision=precision)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_convolution_and_has_its_gradients(layout: torch.memory_format, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 1, bias=bias).double()
    product = PointwiseConv2d(5, 7, 1, bias=bias).double()
    product.load_state_dict(conv.state_dict())
    found = []
    for layer in (conv, product):
        x = torch.linspace(-1, 1, 2 * 5 * 3 * 4, dtype=torch.float64).reshape(2, 5, 3, 4)
        x = x.to(memory_format=layout).requires_grad_()
        y = layer(x)
        (y * torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape)).sum().backward()
        found.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_is_no_plain_1x1_convolution_stays() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 4, 1, padding=1), nn.Linear(4, 4),
    )  # fmt: skip
    multiply_pointwise(layers, accelerator())
    assert [type(layer) is PointwiseConv2d for layer in layers] == [True] + [False] * 5


@pytest.mark.parametrize(("device", "precision"), [("meta", "bf16"), ("cpu", "no")])
def test_it_is_for_bf16_on_a_cpu(device: str, precision: str) -> None:
    layers = nn.Sequential(nn.Conv2d(4, 4, 1))
    multiply_pointwise(layers, accelerator(device, precision))
    assert type(layers[0]) is nn.Conv2d


def test_a_network_keeps_its_tensors_and_its_features_in_eval_mode() -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings(backbone="visformer_mini", image_size=32, layer="3-1"), 8).eval()
    images, names = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last), list(network.state_dict())
    with torch.no_grad():
        before = network(images)
        multiply_pointwise(network, accelerator())
        assert list(network.state_dict()) == names
        assert torch.equal(network(images), before)
        trained = network.train()(images)
    assert sum(type(layer) is PointwiseConv2d for layer in network.modules()) > 10
    assert torch.isfinite(trained).all()
