"""Readers and writers of label formats, one module each."""
