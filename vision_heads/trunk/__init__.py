"""Backbone and neck: one picture to the pyramid P2..P5."""
