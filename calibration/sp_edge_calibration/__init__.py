"""Quantises FP32 ONNX graphs with calibration pictures and reports what it cost."""
