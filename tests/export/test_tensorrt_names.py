"""What the engine's builder uses of TensorRT exists in 10.3.0, the oldest version that it supports (JetPack 6)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sp_edge_export.engine

LIST = Path(__file__).with_name("tensorrt-10.3.0-names.txt")
# What a call or an attribute gives, so that the walk can follow `builder.create_network(...)` to INetworkDefinition.
GIVES = {
    "Builder": "Builder",
    "OnnxParser": "OnnxParser",
    "Builder.create_network": "INetworkDefinition",
    "Builder.create_builder_config": "IBuilderConfig",
    "Builder.create_optimization_profile": "IOptimizationProfile",
    "Builder.build_serialized_network": "IHostMemory",
    "INetworkDefinition.get_input": "ITensor",
    "INetworkDefinition.get_output": "ITensor",
    "OnnxParser.get_error": "ParserError",
}
# Names that the code gives to TensorRT's objects where no assignment says what they are.
ARGUMENTS = {"trt": "", "tensor": "ITensor", "error": "ParserError"}


class Walk(ast.NodeVisitor):
    """Collects every name of TensorRT that a module uses, as 'Class.member'."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._kinds: dict[str, str] = dict(ARGUMENTS)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name) and (kind := self._kind(node.value)):
                self._kinds[target.id] = kind
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            if (kind := self._name(base)) is not None:
                self.used.add(kind)
                methods = [m.name for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
                self.used |= {f"{kind}.{method}" for method in methods}
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (name := self._name(node)) is not None and not node.attr.startswith("__"):
            self.used.add(name)
        self.generic_visit(node)

    def _name(self, node: ast.AST) -> str | None:
        """'Builder.create_network' of `builder.create_network`; None of what is not TensorRT's."""
        if not isinstance(node, ast.Attribute):
            return None
        if isinstance(node.value, ast.Attribute):
            outer = self._name(node.value)
            return None if outer is None else f"{outer}.{node.attr}"
        kind = self._kind(node.value)
        return None if kind is None else f"{kind}.{node.attr}".lstrip(".")

    def _kind(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return self._kinds.get(node.id)
        if isinstance(node, ast.Call):
            return GIVES.get(self._name(node.func) or "")
        return None


def used_by(source: str) -> set[str]:
    """Names two deep, as the list has them; 'ILogger.Severity.ERROR' is there as ILogger.Severity and ILogger.ERROR."""
    walk = Walk()
    walk.visit(ast.parse(source))
    parts = [name.split(".") for name in walk.used]
    return {".".join((names[0], *names[i : i + 1])) for names in parts for i in range(1, max(2, len(names)))}


@pytest.fixture(scope="module")
def names() -> set[str]:
    comment, *lines = LIST.read_text("utf-8").splitlines()
    assert comment.startswith("#")
    return set(lines)


@pytest.fixture(scope="module")
def used() -> set[str]:
    return used_by(Path(sp_edge_export.engine.__file__).read_text("utf-8"))


def test_all_that_the_engine_uses_exists_in_10_3(names: set[str], used: set[str]) -> None:
    assert not used - names
    assert len(used) > 30


def test_the_walk_follows_what_calls_give(used: set[str]) -> None:
    assert used >= {
        "Builder",
        "Builder.build_serialized_network",
        "IBuilderConfig.builder_optimization_level",
        "IBuilderConfig.progress_monitor",
        "ILogger.ERROR",
        "ILogger.Severity",
        "INetworkDefinition.num_inputs",
        "IOptimizationProfile.set_shape",
        "IProgressMonitor.step_complete",
        "ITensor.dtype",
        "MemoryPoolType.WORKSPACE",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "OnnxParser.parse_from_file",
        "ParserError.desc",
    }


@pytest.mark.parametrize(
    "line",
    [
        "config.set_flag(trt.BuilderFlag.STRIP_PLAN_OF_ITS_WEIGHTS)",
        "trt.Builder(log).create_something_newer()",
        "network.mark_weights_refittable_by_name('w')",
        "tensor.newer",
        "trt.NewClass",
    ],
)
def test_what_10_3_does_not_have_is_found(names: set[str], line: str) -> None:
    before = "builder = trt.Builder(log)\nnetwork = builder.create_network(1)\nconfig = builder.create_builder_config()\n"
    assert not used_by(before) - names
    assert used_by(before + line) - names


def test_precision_flags_that_tensorrt_11_dropped_are_not_used(used: set[str]) -> None:
    gone = ("BuilderFlag.FP16", "BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "IInt8", "platform_has")
    assert not [name for name in used for part in gone if part in name]
