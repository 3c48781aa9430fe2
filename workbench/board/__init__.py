"""A trained predictor beside the device: without torch, on ONNX Runtime and numpy."""
