"""Measures a bundle on this machine: each engine and precision that opens here, in turns."""
