"""Traces the network to the two graphs of a bundle: `query` (image -> feature), `support` (image, prompt -> feature, plain).

The support graph of a network that scores places for a name gives `scores` besides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sp_edge.bundle.manifest import OUTPUTS, SCORES
from sp_edge.errors import ExportError
from sp_edge.model import PromptedNetwork, PromptedPlaces
from sp_edge_export.fold import fold
from sp_edge_export.part import part_for
from sp_edge_export.tracing import drop_notes, exporter_errors, run_exporter

# 20 has Gelu as one operator, which ONNX Runtime computes faster than the five that 19 spells it with (it does not fuse
# them), and which TensorRT's parser is documented to read from 10.0 on. Half scales of Q/DQ nodes need 19.
OPSETS = (20, 19)
_SCOPES = "pkg.torch.onnx.name_scopes"  # a note at each node: the modules around it, and PyTorch's operator that it is of
_LAYERS = ("conv2d", "linear")
# With a batch of 1 the exporter takes N for a constant, silently or at run time.
EXAMPLE_BATCH = 2


class SupportGraph(nn.Module):
    """uint8 pictures and prompts to features, with the prompt and without: a bank keeps both, and they share most of the work.

    Where the prompt has no part in the feature, the graph takes it and ignores it, so that all bundles are alike. A network
    that scores places for a name gives the scores, too.
    """

    def __init__(self, network: PromptedNetwork) -> None:
        super().__init__()
        self.network = network
        self._prompted = network.prompt is not None and network.strength > 0

    def forward(self, image: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, H, W, 3) RGB, float32 (N, T) -> float32 (N, D), the query graph's of the same pictures, and (N, h, w)."""
        tokens = self.network.begin(self.network.normalise(image))
        plain = self.network.finish(tokens)
        if self._prompted:
            feature = self.network.finish(tokens, prompt, plain=plain)
        else:
            feature = plain + 0 * prompt.sum(dim=1, keepdim=True)
        scores = (self.network.scores(tokens, prompt),) if isinstance(self.network, PromptedPlaces) else ()
        return feature, plain, *scores


def export_graphs(
    network: PromptedNetwork,
    image_size: int,
    prompt_dim: int,
    folder: Path,
    *,
    opset: int = OPSETS[0],
    norms_before: bool = True,
) -> dict[str, Path]:
    """Writes `query.onnx` and `support.onnx` in float32, with a batch of any size.

    The query graph is the part of the support graph that gives `plain`: the network is traced once.

    Convolutions and products with a linear layer's weights are named after their layers, such as
    'backbone.stage2.0.attn.qkv'. The files say nothing of the machine that wrote them. Other values are named as the exporter
    counts them, which a bundle's identity does not heed.

    Args:
        opset: one of `OPSETS`.
        norms_before: whether BatchNorms that precede a convolution are folded into it; see `fold`.

    Returns:
        Graph name -> file.

    Raises:
        ExportError: the exporter failed, or its graph is invalid.
    """
    folded = fold(network, norms_before=norms_before)
    image = torch.randint(0, 256, (EXAMPLE_BATCH, image_size, image_size, 3), dtype=torch.uint8)
    prompt = torch.randn(EXAMPLE_BATCH, prompt_dim)
    files = {"query": folder / "query.onnx", "support": folder / "support.onnx"}
    outputs = (*OUTPUTS["support"], *((SCORES,) if isinstance(folded, PromptedPlaces) else ()))
    support = _export(SupportGraph(folded), {"image": image, "prompt": prompt}, outputs, files["support"], opset)
    (feature,) = OUTPUTS["query"]
    query = part_for(support, "plain", called=feature)
    onnx.checker.check_model(query, full_check=True)
    onnx.save(query, files["query"])
    return files


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], file: Path, opset: int) -> onnx.ModelProto:
    batch = torch.export.Dim("N", min=1)
    with exporter_errors(file.name):
        run_exporter(module.eval(), inputs, outputs, {0: batch}, opset).save(file)
        model = onnx.load(file)
        _name_layers(model)
        drop_notes(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, file)
    given = {entry.domain: entry.version for entry in model.opset_import}.get("", 0)
    dims = {i.name: i.type.tensor_type.shape.dim[0] for i in (*model.graph.input, *model.graph.output)}
    fixed = [name for name, dim in dims.items() if not dim.dim_param]
    if given != opset or fixed:
        raise ExportError(
            f"{file.name} is not what was asked for",
            expected=f"opset {opset}, dynamic batch",
            got=f"opset {given}, fixed batch in {fixed}",
        )
    return model


def _name_layers(model: onnx.ModelProto) -> None:
    """Names convolutions, and the products with the weights of linear layers, after their layers: the exporter notes them."""
    times: Counter[str] = Counter()
    for node in model.graph.node:
        noted = next((note.value for note in node.metadata_props if note.key == _SCOPES), "")
        *_, layer, operator = ["", "", *re.findall(r"'([^']*)'", noted)]
        if node.op_type in ("Conv", "MatMul") and operator.startswith(_LAYERS):
            layer = layer.removeprefix("network.")
            times[layer] += 1  # the support graph runs the layers behind the prompt twice, first without it
            node.name = layer if times[layer] == 1 else f"{layer}/{times[layer]}"
