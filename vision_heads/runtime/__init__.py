"""The torch-free runtime: engines, the predictor, slicing."""
