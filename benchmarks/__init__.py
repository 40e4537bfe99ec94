"""Measurements against peers: one script per claim, each writes the table it prints."""
