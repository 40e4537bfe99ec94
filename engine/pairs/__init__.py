"""Pairs of a prompt and a completion: how they become token ids, and how they are scored."""
