"""The command `vh`: one thin module a command."""

from vision_heads.cli.main import main

__all__ = ["main"]
