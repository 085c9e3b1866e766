"""Ready-made weights of networks that have seen photographs, and what must be known of them to use them."""

from sp_edge.model.ready.registry import KNOWN, find_weights
from sp_edge.model.ready.weights import Head, ReadyWeights

__all__ = ["KNOWN", "Head", "ReadyWeights", "find_weights"]
