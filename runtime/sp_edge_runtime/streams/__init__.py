"""Recognition of the frames of sources, one after the other."""
