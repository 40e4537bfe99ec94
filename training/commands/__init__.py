"""Whole commands as functions; `cli/` only parses their arguments."""
