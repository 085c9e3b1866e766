"""Text encoders as ONNX, for devices without torch."""
