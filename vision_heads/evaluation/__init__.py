"""Scoring results by a protocol's rules."""
