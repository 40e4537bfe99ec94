"""Scores and runs as people see them: pictures, pages, tables, bars."""
