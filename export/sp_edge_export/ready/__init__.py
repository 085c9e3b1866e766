"""Ready-made networks as bundles: names are fitted in closed form, and what features are like was measured on photographs."""

from sp_edge_export.ready.make import ReadyOptions, make_ready, prepare

__all__ = ["ReadyOptions", "make_ready", "prepare"]
