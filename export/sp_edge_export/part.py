"""Cuts out of a graph what one of its outputs needs, so that two graphs of one network are traced once."""

from __future__ import annotations

import onnx


def part_for(model: onnx.ModelProto, output: str, *, called: str) -> onnx.ModelProto:
    """A model that gives one output of another one, under another name, and takes the inputs that it needs.

    Operators, weights and their names stay as they are.

    Args:
        model: without graphs inside of operators.
        output: name of one of its outputs.
        called: the name in the new model; of no other value.

    Raises:
        ValueError: there is no such output.
    """
    graph = model.graph
    wanted = next((value for value in graph.output if value.name == output), None)
    if wanted is None:
        raise ValueError(f"the graph has no output {output}")
    needed, kept = {output}, []
    for node in reversed(graph.node):  # which ONNX has in the order of work
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "input", "output", "initializer", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(reversed(kept))
    part.graph.input.extend(value for value in graph.input if value.name in needed)
    part.graph.initializer.extend(value for value in graph.initializer if value.name in needed)
    part.graph.output.append(wanted)
    part.graph.output[0].name = called
    for node in part.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == output:
                    names[place] = called
    return part
