"""Folders that inference servers load."""
