"""The Semantic Prompt authors' network in float64, restated from the names and shapes in their files and the papers' equations.

It shares no code with sp_edge or timm. A state dict maps their names to float32 tensors.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor
from torch.nn.functional import conv2d

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
WIDTHS = (96, 192, 384)
DEPTHS = (7, 4, 4)
HEADS = 3
EPS = 1e-5


def shapes(
    *,
    grids: tuple[int, int, int] = (28, 14, 7),
    small_stem: bool = False,
    mode: str = "both",
    stage: int = 3,
    text_dim: int = 512,
    projector: str = "linear",
    classes: int = 64,
) -> Shapes:
    """Names and shapes of a visformer_tiny's state dict; `mode` is both, spatial or none."""
    found: Shapes = {f"pos_embed{i}": (1, c, g, g) for i, c, g in zip((1, 2, 3), WIDTHS, grids, strict=True)}

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.bn.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        found[f"{name}.bn.num_batches_tracked"] = ()

    kernel = 3 if small_stem else 7
    found["stem.0.weight"] = (16, 3, kernel, kernel)
    norm("stem.1", 16)
    if small_stem:
        found["stem.3.weight"] = (16, 16, 3, 3)
        norm("stem.4", 16)
    for i, (before, width, kernel, depth) in enumerate(zip((16, 96, 192), WIDTHS, (4, 2, 2), DEPTHS, strict=True), 1):
        found[f"patch_embed{i}.proj.weight"] = (width, before, kernel, kernel)
        found[f"patch_embed{i}.proj.bias"] = (width,)
        norm(f"patch_embed{i}.norm", width)
        for block in (f"stage{i}.{number}" for number in range(depth)):
            if i > 1:
                norm(f"{block}.norm1", width)
                found[f"{block}.attn.qkv.weight"] = (3 * width, width, 1, 1)
                found[f"{block}.attn.proj.weight"] = (width, width, 1, 1)
            norm(f"{block}.norm2", width)
            hidden = 2 * width if i == 1 else 4 * width
            found[f"{block}.mlp.conv1.weight"] = (hidden, width, 1, 1)
            if i == 1:
                found[f"{block}.mlp.conv2.weight"] = (hidden, hidden // 8, 3, 3)
            found[f"{block}.mlp.conv3.weight"] = (width, hidden, 1, 1)
    norm("norm", 384)
    if classes:
        found |= {"head.weight": (classes, 384), "head.bias": (classes,)}
    dim = WIDTHS[stage - 1]
    if mode != "none":
        square = (text_dim, text_dim)
        found |= {
            "linear": {"t2i.weight": (dim, text_dim)},
            "mlp": {"t2i.0.weight": square, "t2i.0.bias": (text_dim,), "t2i.2.weight": (dim, text_dim)},
            "mlp3": {
                **{f"t2i.{i}.weight": square for i in (0, 2)},
                **{f"t2i.{i}.bias": (text_dim,) for i in (0, 2)},
                "t2i.4.weight": (dim, text_dim),
            },
        }[projector]
    if mode == "both":
        found |= {"t2i2.weight": (dim, text_dim), "se_block.0.weight": (dim, 2 * dim), "se_block.0.bias": (dim,)}
        found |= {"se_block.2.weight": (dim, dim), "se_block.2.bias": (dim,)}
    return found


def random_state(of: Shapes, seed: int = 0) -> State:
    """Weights of which none is 0 or 1, scaled so that activations stay near 1."""
    rng = torch.Generator().manual_seed(seed)
    state: State = OrderedDict()
    for name, shape in of.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(("bn.weight", "running_var")):
            state[name] = 0.5 + torch.rand(shape, generator=rng)
        elif name.endswith(".weight"):
            state[name] = torch.randn(shape, generator=rng) / math.sqrt(math.prod(shape[1:]))
        else:
            state[name] = 0.3 * torch.randn(shape, generator=rng)
    return state


def features(
    state: State,
    images: Tensor,
    text: Tensor | None = None,
    *,
    layer: str = "3-2",
    interaction: str = "both",
    pooling: str = "all",
    zero_mean: bool = True,
) -> Tensor:
    """f(x | g(y)) in float64: images (N, 3, H, W) and texts (N, T) -> (N, 384)."""
    net = _Network(state, interaction, zero_mean)
    if text is None:
        return net.tokens(images)[0].mean(dim=2)
    z, has_token = net.tokens(images, text.double(), layer)
    if has_token and pooling == "head":
        return z[:, :, -1]
    return (z[:, :, :-1] if has_token and pooling == "patch" else z).mean(dim=2)


def calibrate(state: State, images: Tensor) -> None:
    """Sets every BatchNorm's statistics to those of these images, as training would leave them."""
    net = _Network(state, "none", zero_mean=True)
    net.calibrates = True
    net.tokens(images)
    for name in state:
        if name.endswith(("running_mean", "running_var")):
            state[name] = net.w[name].float()


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


class _Network:
    def __init__(self, state: State, interaction: str, zero_mean: bool) -> None:
        self.w = {name: value.double() for name, value in state.items()}
        self.interaction, self.zero_mean = interaction, zero_mean
        self.calibrates = False

    def tokens(self, images: Tensor, text: Tensor | None = None, layer: str = "") -> tuple[Tensor, bool]:
        """The last layer's tokens (N, C, M), and whether the last of them is the prompt's."""
        x, has_token = self.stem(images.double()), False
        for stage, depth in zip((1, 2, 3), DEPTHS, strict=True):
            x = self.embed(f"patch_embed{stage}", x) + self.w[f"pos_embed{stage}"]
            if stage == 1:
                for i in range(depth):
                    x = self.convolutional_block(f"stage1.{i}", x)
                continue
            z = x.flatten(2)
            for i in range(depth):
                if text is not None and f"{stage}-{i}" == layer:
                    z, has_token = self.prompted(z, text), self.interaction != "channel"
                z = self.transformer_block(f"stage{stage}.{i}", z)
            if stage == 2:
                x, has_token = z[:, :, : x[0, 0].numel()].reshape(x.shape), False
        return self.norm("norm", z), has_token

    def norm(self, name: str, x: Tensor) -> Tensor:
        """BatchNorm over the second axis of (N, C, ...)."""
        name = f"{name}.bn"
        if self.calibrates:
            flat = x.transpose(0, 1).flatten(1)
            self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"] = flat.mean(dim=1), flat.var(dim=1)
        column = (1, -1) + (1,) * (x.dim() - 2)
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (self.w[f"{name}.{part}"].reshape(column) for part in parts)
        return (x - mean) / (var + EPS).sqrt() * scale + shift

    def stem(self, x: Tensor) -> Tensor:
        if "stem.3.weight" in self.w:
            x = self.norm("stem.1", conv2d(x, self.w["stem.0.weight"], padding=1)).clamp(min=0)
            return self.norm("stem.4", conv2d(x, self.w["stem.3.weight"], padding=1)).clamp(min=0)
        return self.norm("stem.1", conv2d(x, self.w["stem.0.weight"], stride=2, padding=3)).clamp(min=0)

    def embed(self, name: str, x: Tensor) -> Tensor:
        kernel = self.w[f"{name}.proj.weight"]
        return self.norm(f"{name}.norm", conv2d(x, kernel, self.w[f"{name}.proj.bias"], stride=kernel.shape[-1]))

    def convolutional_block(self, name: str, x: Tensor) -> Tensor:
        y = _gelu(conv2d(self.norm(f"{name}.norm2", x), self.w[f"{name}.mlp.conv1.weight"]))
        y = _gelu(conv2d(y, self.w[f"{name}.mlp.conv2.weight"], padding=1, groups=8))
        return x + conv2d(y, self.w[f"{name}.mlp.conv3.weight"])

    def transformer_block(self, name: str, z: Tensor) -> Tensor:
        z = z + self.attention(f"{name}.attn", self.norm(f"{name}.norm1", z))
        y = _gelu(self.w[f"{name}.mlp.conv1.weight"][:, :, 0, 0] @ self.norm(f"{name}.norm2", z))
        return z + self.w[f"{name}.mlp.conv3.weight"][:, :, 0, 0] @ y

    def attention(self, name: str, z: Tensor) -> Tensor:
        """softmax((q d^-1/4) (k d^-1/4)) v for each head."""
        width = z.shape[1]
        d = width // HEADS
        qkv = self.w[f"{name}.qkv.weight"][:, :, 0, 0] @ z
        mixed = []
        for head in range(HEADS):
            q, k, v = (qkv[:, part * width + head * d :][:, :d] for part in range(3))
            scores = torch.exp((q * d**-0.25).transpose(1, 2) @ (k * d**-0.25))
            mixed.append(v @ (scores / scores.sum(dim=2, keepdim=True)).transpose(1, 2))
        return self.w[f"{name}.proj.weight"][:, :, 0, 0] @ torch.cat(mixed, dim=1)

    def prompted(self, z: Tensor, g: Tensor) -> Tensor:
        """Tokens (N, C, M) and prompts (N, T) -> (N, C, M + 1); the prompt's token comes last, as in the release."""
        w, patches = self.w, z
        if self.interaction in ("both", "channel"):
            context = torch.cat([z.mean(dim=2), g @ w["t2i2.weight"].T], dim=1)
            hidden = _sigmoid(context @ w["se_block.0.weight"].T + w["se_block.0.bias"])
            beta = _sigmoid(hidden @ w["se_block.2.weight"].T + w["se_block.2.bias"])
            patches = z + (beta - beta.mean(dim=1, keepdim=True) if self.zero_mean else beta)[:, :, None]
        if self.interaction in ("both", "spatial"):
            return torch.cat([patches, self.h_s(g)[:, :, None]], dim=2)
        return patches

    def h_s(self, g: Tensor) -> Tensor:
        """Rows (N, T) -> (N, C)."""
        if "t2i.weight" in self.w:
            return g @ self.w["t2i.weight"].T
        last = 4 if "t2i.4.weight" in self.w else 2
        for i in range(0, last, 2):
            g = (g @ self.w[f"t2i.{i}.weight"].T + self.w[f"t2i.{i}.bias"]).clamp(min=0)
        return g @ self.w[f"t2i.{last}.weight"].T
