"""Data sets: from files in any format to batches."""
