"""A run: its folder, state and rounds, and the engines it asks."""
