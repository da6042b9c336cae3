"""Texts that several commands' options share; nothing is imported here."""

PROVIDER_HELP = (
    "Where ONNX Runtime computes a .onnx file: tensorrt, cuda, openvino, coreml, directml or cpu; "
    "an error if it cannot."
)
"""Help of the option --provider of every command that runs a model."""
