"""The SP Visformer: timm's Visformer, steered by a class prompt."""

from sp_edge.model.backbone import BACKBONES, build_backbone
from sp_edge.model.network import PromptedVisformer, build_network
from sp_edge.model.prompt import SemanticPrompt

__all__ = ["BACKBONES", "PromptedVisformer", "SemanticPrompt", "build_backbone", "build_network"]
