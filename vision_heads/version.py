"""The package's version, read by the build and by ``vh --version``."""

__version__ = "0.1.0"
