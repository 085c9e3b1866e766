"""What sp-edge uses of TensorRT exists in 10.3.0, the oldest version that it supports (JetPack 6.1), wherever it stands."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIST = Path(__file__).with_name("tensorrt-10.3.0-names.txt")
# Names that later versions brought, and that the code uses only where it has found them.
LATER = {
    "ComputeCapability": "TensorRT-RTX",
    "IBuilderConfig.num_compute_capabilities": "TensorRT-RTX",
    "IBuilderConfig.set_compute_capability": "TensorRT-RTX",
}
# What a call or an attribute gives, so that the walk can follow `builder.create_network(...)` to INetworkDefinition.
GIVES = {
    "Builder": "Builder",
    "OnnxParser": "OnnxParser",
    "Runtime": "Runtime",
    "Builder.create_network": "INetworkDefinition",
    "Builder.create_builder_config": "IBuilderConfig",
    "Builder.create_optimization_profile": "IOptimizationProfile",
    "Builder.build_serialized_network": "IHostMemory",
    "IBuilderConfig.create_timing_cache": "ITimingCache",
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "INetworkDefinition.get_input": "ITensor",
    "INetworkDefinition.get_layer": "ILayer",
    "INetworkDefinition.get_output": "ITensor",
    "ILayer.get_output": "ITensor",
    "OnnxParser.get_error": "ParserError",
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
    "ICudaEngine.create_engine_inspector": "EngineInspector",
    "ICudaEngine.create_execution_context": "IExecutionContext",
}
# Names that the code gives to TensorRT's objects where no assignment says what they are, also as attributes: self._engine.
ARGUMENTS = {
    "trt": "",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
    "error": "ParserError",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}


def sources() -> list[Path]:
    """Every module of the product that names TensorRT's module."""
    files = [path for room in ("export", "runtime", "calibration", "sp_edge") for path in (ROOT / room).rglob("*.py")]
    return sorted(path for path in files if re.search(r"\b(trt|DataType)\b", path.read_text("utf-8")))


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
        kind = self._kind(node.value)
        if kind is None and isinstance(node.value, ast.Attribute):
            outer = self._name(node.value)
            return None if outer is None else f"{outer}.{node.attr}"
        return None if kind is None else f"{kind}.{node.attr}".lstrip(".")

    def _kind(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return self._kinds.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            return ARGUMENTS.get(node.attr.lstrip("_"))
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
    return {name for path in sources() for name in used_by(path.read_text("utf-8"))}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.stem)
def test_all_that_a_module_uses_exists_in_10_3(names: set[str], path: Path) -> None:
    assert not used_by(path.read_text("utf-8")) - names - set(LATER)


def test_later_names_are_later_ones_and_used(names: set[str], used: set[str]) -> None:
    assert not set(LATER) & names
    assert set(LATER) <= used


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
        "ICudaEngine.create_engine_inspector",
        "EngineInspector.get_engine_information",
        "ILayer.num_outputs",
        "ITensor.dtype",
        "ITimingCache.serialize",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.get_tensor_profile_shape",
        "IExecutionContext.execute_async_v3",
        "TensorIOMode.OUTPUT",
        "MemoryPoolType.WORKSPACE",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "OnnxParser.parse",
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
