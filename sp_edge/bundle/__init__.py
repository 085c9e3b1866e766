"""The bundle: the folder that export writes and the runtime loads."""
