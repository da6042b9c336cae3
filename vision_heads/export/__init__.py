"""From weights to files that run without torch."""
