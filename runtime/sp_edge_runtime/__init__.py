"""Recognises taught classes on pictures and camera streams, without torch."""
