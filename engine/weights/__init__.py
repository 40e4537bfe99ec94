"""Weights as folders: models, published checkpoints with their manifests, adapters, checks."""
