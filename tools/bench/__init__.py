"""Measurements. Run as modules from the repository root: `python -m tools.bench.runtime`."""
