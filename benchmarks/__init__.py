"""Measurements against peers: one script per claim, each writes the table it prints.

What scripts are made of lies in the folders: `common` to all, `peers` beside whom they run, and the
parts of single ones.
"""
