"""Image encoders that a class's prompt steers: Semantic Prompt on timm's Visformer, and on what it is compared with."""

from sp_edge.model.backbone import BACKBONES, build_backbone
from sp_edge.model.build import build_network
from sp_edge.model.network import PromptedFeatureMap, PromptedNetwork, PromptedVisformer
from sp_edge.model.places import NamedPlaces
from sp_edge.model.prompt import SemanticPrompt
from sp_edge.model.prompted_places import PromptedPlaces

__all__ = [
    "BACKBONES", "NamedPlaces", "PromptedFeatureMap", "PromptedNetwork", "PromptedPlaces", "PromptedVisformer",
    "SemanticPrompt", "build_backbone", "build_network",
]  # fmt: skip
