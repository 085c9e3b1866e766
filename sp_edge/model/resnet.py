"""The ResNet-12 of few-shot learning, to compare with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 160, 320, 640)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 one, and a pooling that halves the map; slope 0.1 below zero throughout."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.conv3, self.bn3 = _conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(_conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, C, H, W) -> (B, C', H // 2, W // 2)."""
        y = functional.leaky_relu(self.bn1(self.conv1(x)), 0.1)
        y = functional.leaky_relu(self.bn2(self.conv2(y)), 0.1)
        y = functional.leaky_relu(self.bn3(self.conv3(y)) + self.downsample(x), 0.1)
        return functional.max_pool2d(y, 2)


class ResNet12(nn.Module):
    """Four such blocks, as in TADAM (arXiv 1805.10123) and FEAT (arXiv 1812.03664), without dropout.

    Parameters have FEAT's names, which are also those of easyfsl's `feat_resnet12`; the two halves have timm's.
    """

    num_features = head_hidden_size = WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(ResidualBlock(inputs, outputs)) for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Float (B, 3, H, W) -> (B, 640)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Float (B, 3, H, W), H and W 16 or more -> feature map (B, 640, H // 16, W // 16)."""
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(image))))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """Feature map (B, 640, h, w) -> its mean, (B, 640)."""
        return features.mean(dim=(2, 3))


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
    return conv
