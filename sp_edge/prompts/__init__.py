"""Prompts: the text vectors that stand for classes."""
