"""The word for what is no taught class."""

UNKNOWN = "unknown"
