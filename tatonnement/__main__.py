"""python -m tatonnement: the same as the command."""

from decomp.cli import main

main()
