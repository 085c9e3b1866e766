from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sp_edge.errors import SettingsError
from sp_edge.model import SemanticPrompt


@torch.no_grad()
def by_hand(*, spatial: bool, channel: bool, zero_mean: bool = False) -> SemanticPrompt:
    """Two channels, prompts of one number, weights that can be followed on paper."""
    prompt = SemanticPrompt(1, 2, spatial=spatial, channel=channel, zero_mean=zero_mean)
    if isinstance(prompt.spatial, nn.Linear):
        prompt.spatial.weight.copy_(torch.tensor([[10.0], [20.0]]))
    if prompt.channel is not None and prompt.channel_mlp is not None:
        prompt.channel.weight.copy_(torch.tensor([[5.0], [7.0]]))
        prompt.channel_mlp[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]]))
        prompt.channel_mlp[0].bias.copy_(torch.tensor([-1.0, -7 + math.log(3)]))
        prompt.channel_mlp[2].weight.copy_(torch.tensor([[2.0, 0], [0, 4.0]]))
        prompt.channel_mlp[2].bias.copy_(torch.tensor([-1.0, -3 + math.log(4)]))
    return prompt


# Two patches z1 = (0, 2) and z2 = (2, 4), side by side: their mean is (1, 3). With g = 1, h_c(g) = (5, 7).
PATCHES = torch.tensor([[[[0.0, 2.0]], [[2.0, 4.0]]]])
# W1 takes the first number of the mean and the second of the prompt: (1 - 1, 7 - 7 + ln 3), whose sigmoids are
# (1/2, 3/4). W2 makes (2/2 - 1, 4 * 3/4 - 3 + ln 4) = (0, ln 4) of them: beta = (1/2, 4/5).
PROMPTED = [[0.5, 2.5], [2.8, 4.8]]


def run(prompt: SemanticPrompt, value: float = 1.0) -> Tensor:
    with torch.no_grad():
        tokens: Tensor = prompt(PATCHES, torch.tensor([[value]]))
    return tokens


def test_the_channel_interaction_adds_the_same_beta_to_every_patch() -> None:
    tokens = run(by_hand(spatial=False, channel=True))
    assert tokens.shape == (1, 2, 2, 1)
    torch.testing.assert_close(tokens[0, :, :, 0], torch.tensor(PROMPTED), rtol=0, atol=1e-6)


def test_a_zero_mean_beta_adds_to_some_channels_what_it_takes_from_others() -> None:
    # beta = (1/2, 4/5), less its mean 13/20: (-3/20, 3/20).
    tokens = run(by_hand(spatial=False, channel=True, zero_mean=True))
    torch.testing.assert_close(tokens[0, :, :, 0], torch.tensor([[-0.15, 1.85], [2.15, 4.15]]), rtol=0, atol=1e-6)
    assert SemanticPrompt(1, 2).zero_mean, "as the release does"


@torch.no_grad()
def test_mlp_projectors_by_hand() -> None:
    mlp = SemanticPrompt(2, 1, channel=False, projector="mlp")
    mlp3 = SemanticPrompt(2, 1, channel=False, projector="mlp3")
    for prompt in (mlp, mlp3):
        assert isinstance(prompt.spatial, nn.Sequential)
        prompt.spatial[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        prompt.spatial[0].bias.copy_(torch.tensor([0.5, 1.0]))
        prompt.spatial[-1].weight.copy_(torch.tensor([[3.0, 5.0]]))
    mlp3.spatial[2].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, -1.0]]))  # type: ignore[index]
    mlp3.spatial[2].bias.copy_(torch.tensor([-1.0, 2.0]))  # type: ignore[index]
    tokens, text = torch.zeros(1, 1, 1, 1), torch.tensor([[2.0, -1.0]])
    # Hidden: (2 - 2 + 1/2, -2 + 1) = (1/2, -1), of which r leaves (1/2, 0). mlp: 3/2.
    assert mlp(tokens, text).flatten().tolist() == [1.5, 0.0]
    # mlp3 goes on: (0 - 1, 1/2 + 2) = (-1, 5/2), of which r leaves (0, 5/2): 25/2.
    assert mlp3(tokens, text).flatten().tolist() == [12.5, 0.0]


@pytest.mark.parametrize(
    ("projector", "names"),
    [
        ("mlp", {"0.weight": (5, 5), "0.bias": (5,), "2.weight": (3, 5)}),
        ("mlp3", {"0.weight": (5, 5), "0.bias": (5,), "2.weight": (5, 5), "2.bias": (5,), "4.weight": (3, 5)}),
    ],
)
def test_mlp_projectors_change_the_spatial_interaction_alone(projector: str, names: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(value.shape) for name, value in SemanticPrompt(5, 3, projector=projector).named_parameters()}
    linear = {name: tuple(value.shape) for name, value in SemanticPrompt(5, 3).named_parameters()}
    del linear["spatial.weight"]
    assert found == linear | {f"spatial.{name}": shape for name, shape in names.items()}


def test_an_unknown_projector_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown projector"):
        SemanticPrompt(5, 3, projector="cubic")


def test_the_spatial_interaction_puts_one_token_first_and_leaves_the_patches() -> None:
    tokens = run(by_hand(spatial=True, channel=False), 0.5)
    torch.testing.assert_close(tokens[0, :, :, 0], torch.tensor([[5.0, 0, 2], [10.0, 2, 4]]), rtol=0, atol=0)


def test_together_the_prompts_token_gets_no_beta() -> None:
    tokens = run(by_hand(spatial=True, channel=True))
    expected = torch.tensor([[10.0, *PROMPTED[0]], [20.0, *PROMPTED[1]]])
    torch.testing.assert_close(tokens[0, :, :, 0], expected, rtol=0, atol=1e-6)


def test_the_two_projectors_are_separate_and_without_bias() -> None:
    names = {name: tuple(value.shape) for name, value in SemanticPrompt(5, 3).named_parameters()}
    assert names == {
        "spatial.weight": (3, 5),
        "channel.weight": (3, 5),
        "channel_mlp.0.weight": (3, 6),
        "channel_mlp.0.bias": (3,),
        "channel_mlp.2.weight": (3, 3),
        "channel_mlp.2.bias": (3,),
    }
    assert set(SemanticPrompt(5, 3, channel=False).state_dict()) == {"spatial.weight"}
    assert "spatial.weight" not in SemanticPrompt(5, 3, spatial=False).state_dict()


@pytest.mark.parametrize(("text_dim", "projector"), [(512, 196_608), (768, 294_912), (300, 115_200)])
def test_parameter_counts_are_the_papers(text_dim: int, projector: int) -> None:
    prompt = SemanticPrompt(text_dim, 384)
    assert isinstance(prompt.spatial, nn.Linear)
    assert prompt.channel is not None
    assert prompt.channel_mlp is not None
    assert prompt.spatial.weight.numel() == prompt.channel.weight.numel() == projector
    assert sum(p.numel() for p in prompt.channel_mlp.parameters()) == 443_136
    # facts/checkpoint.md: all of tiny-224 with a head of 64 classes
    whole = 9_936_368 + 24_640 + sum(p.numel() for p in prompt.parameters())
    assert whole == {512: 10_797_360, 768: 10_993_968, 300: 10_634_544}[text_dim]


def test_each_picture_is_prompted_on_its_own() -> None:
    torch.manual_seed(0)
    prompt = SemanticPrompt(4, 6).double()
    tokens, texts = torch.randn(3, 6, 2, 2).double(), torch.randn(3, 4).double()
    with torch.no_grad():
        together = prompt(tokens, texts)
        for row in range(3):
            alone = prompt(tokens[row : row + 1], texts[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)
        assert (prompt(tokens, texts[[1, 2, 0]]) - together).abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize(("spatial", "channel"), [(True, True), (True, False), (False, True)])
def test_gradients_reach_every_prompt_parameter_the_tokens_and_the_text(spatial: bool, channel: bool) -> None:
    torch.manual_seed(0)
    prompt = SemanticPrompt(4, 6, spatial=spatial, channel=channel)
    tokens, texts = torch.randn(2, 6, 2, 2, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    prompt(tokens, texts).square().sum().backward()
    for name, value in [*prompt.named_parameters(), ("tokens", tokens), ("texts", texts)]:
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name


def test_the_prompts_token_takes_the_kind_of_the_patches() -> None:
    """As under autocast, where a linear layer and a convolution may give different kinds."""
    prompt = SemanticPrompt(4, 6, channel=False)
    assert prompt(torch.randn(1, 6, 2, 2).bfloat16(), torch.randn(1, 4)).dtype == torch.bfloat16
