"""The devices that a user can name, in words; without the engines, so that help answers at once."""

from collections.abc import Mapping

DEVICES: Mapping[str, str] = {
    "auto": "the first of TensorRT, CUDA and the CPU that can be used, and there what is fastest",
    "cpu": "ONNX Runtime on the CPU",
    "cuda": "ONNX Runtime on an NVIDIA GPU",
    "0": "the same as cuda",
    "tensorrt": "TensorRT or TensorRT-RTX, with engines built for this GPU",
    "openvino": "OpenVINO on the CPU",
}
