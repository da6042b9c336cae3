"""Cutting trained models apart and putting them together, without changing what they compute."""
