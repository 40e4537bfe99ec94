"""Scores and races of a whole pool as tables on disk."""
