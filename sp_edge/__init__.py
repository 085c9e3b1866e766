"""sp-edge: few-shot recognition with Semantic Prompt, from training to a Jetson."""

__version__ = "0.1.0"
