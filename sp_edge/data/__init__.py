"""Pictures with class names, from the scenes that the project draws or from a folder."""
