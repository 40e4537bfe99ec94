"""Weights that change while the server answers: admission, gates, the change, its record."""
