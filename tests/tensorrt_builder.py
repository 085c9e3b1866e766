"""Stands in for TensorRT as export uses it: a builder of toy graphs that needs no GPU, and misbehaves where a test asks for it.

What it does differs by the environment's STAND_IN: '' builds; 'killed', 'crashes', 'hangs', 'nothing', 'chatty', 'no start',
'memory' and 'modules' say how `build_serialized_network` or the builder's start goes.
"""

import os
import signal
import sys
import time
from pathlib import Path

__version__ = "10.3.0"
INSPECTED = '{"Layers": [{"Name": "conv", "Outputs": [{"Name": "feature", "Format/Datatype": "Float"}]}]}'
taken: list[bytes] = []  # timing caches that builders were given
TAKES = {"cache": True, "engine": True}


def _mode() -> str:
    return os.environ.get("STAND_IN", "")


class DataType:
    FLOAT, UINT8 = "DataType.FLOAT", "DataType.UINT8"


class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED = 1


class MemoryPoolType:
    WORKSPACE = 0


class ProfilingVerbosity:
    DETAILED = 2


class LayerInformationFormat:
    JSON = 1


class ILogger:
    class Severity:
        ERROR = 1


class IProgressMonitor:
    pass


class Tensor:
    def __init__(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer:
    num_outputs = 1

    def get_output(self, index: int) -> Tensor:
        return Tensor("feature", DataType.FLOAT, (-1, 48))


class Network:
    num_inputs = num_outputs = num_layers = 1

    def __init__(self) -> None:
        self.image = Tensor("image", DataType.UINT8, (-1, 32, 32, 3))

    def get_input(self, index: int) -> Tensor:
        return self.image

    def get_output(self, index: int) -> Tensor:
        return Tensor("feature", DataType.FLOAT, (-1, 48))

    def get_layer(self, index: int) -> Layer:
        return Layer()


class OnnxParser:
    def __init__(self, network: Network, log: ILogger) -> None:
        pass

    def parse(self, content: bytes) -> bool:
        return True


class Cache:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def serialize(self) -> bytes:
        return self.blob


class Config:
    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        self.workspace = size

    def create_timing_cache(self, blob: bytes) -> Cache:
        return Cache(blob)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        taken.append(cache.blob)
        self.cache = cache
        return TAKES["cache"]

    def get_timing_cache(self) -> Cache:
        return Cache(self.cache.blob + b"measured ")

    def add_optimization_profile(self, profile: object) -> None:
        pass


class Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(shapes) == 3


class Builder:
    def __init__(self, log: ILogger) -> None:
        if _mode() == "no start":
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> Network:
        assert flags == 2
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        mode = _mode()
        if "STAND_IN_NOTES" in os.environ:
            Path(os.environ["STAND_IN_NOTES"]).write_text("\n".join([str(os.getpid()), *sys.modules]))
        config.progress_monitor.phase_start("outer", None, 2)  # type: ignore[attr-defined]
        if mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif mode == "crashes":
            os.write(2, b"double free or corruption")
            os.abort()
        elif mode == "hangs":
            time.sleep(600)
        elif mode == "memory":
            raise MemoryError
        elif mode == "chatty":
            print("{this is no answer}", flush=True)
            os.write(1, b"nor is this")
        return None if mode == "nothing" else b"a plan"


class Inspector:
    def get_engine_information(self, form: int) -> str:
        return INSPECTED


class Engine:
    def create_engine_inspector(self) -> Inspector:
        return Inspector()


class Runtime:
    def __init__(self, log: ILogger) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        return Engine() if TAKES["engine"] else None
