"""`python -m zoo` is the `p2zoo` command."""

from zoo.cli import main

main()
