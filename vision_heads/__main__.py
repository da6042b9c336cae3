"""`python -m vision_heads` is `vh`."""

from vision_heads.cli import main

main()
