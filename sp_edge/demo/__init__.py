"""The whole product in one command: photographs without training; then draw, train, measure, export, teach, stream, report."""

from sp_edge.demo.run import run_demo

__all__ = ["run_demo"]
