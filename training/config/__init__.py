"""The config of a run, and its file."""
