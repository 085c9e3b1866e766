"""The text prototype as a layer of a network."""

import numpy as np
import pytest
import torch

from sp_edge.model.text_map import TextMap

T, D = 6, 5


@pytest.mark.parametrize("directional", [False, True])
def test_the_text_prototype_is_the_same_without_torch(directional: bool) -> None:
    torch.manual_seed(0)
    net = TextMap(T, D, directional=directional)
    if directional:
        assert net.mean is not None
        net.mean.normal_()
        net.reach.fill_(0.7)
        net.length.fill_(11.0)
    prompt = torch.randn(4, T)
    with torch.no_grad():
        expected = net(prompt).numpy()
    np.testing.assert_allclose(net.to_numpy()(prompt.numpy()), expected, rtol=1e-5, atol=1e-5)
    if directional:
        assert net.mean is not None
        np.testing.assert_allclose(np.linalg.norm(expected / 11 - net.mean.numpy(), axis=1), 0.7, rtol=1e-5)
