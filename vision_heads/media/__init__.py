"""Pictures in, drawings out; no torch."""
