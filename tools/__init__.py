"""Scripts for maintainers; nothing here is installed."""

import vision_heads  # noqa: F401  (switches ONNX Runtime's telemetry off, before it is imported)
