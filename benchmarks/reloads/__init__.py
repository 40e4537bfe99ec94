"""Faults of weights, and the servers they are tried on."""
