"""Builds, measures and keeps TensorRT engines."""
