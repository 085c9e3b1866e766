"""Runs the `sp-edge` command as `python -m sp_edge`, which is how torchrun starts it."""

from sp_edge.cli import main

main()
