"""Turns a checkpoint into a verified bundle: ONNX graphs, a precision, an engine."""
