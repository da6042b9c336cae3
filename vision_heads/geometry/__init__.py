"""Boxes, letterboxes and rotations in numpy; nothing here knows of heads or networks."""
