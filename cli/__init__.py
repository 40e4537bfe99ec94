"""The CLI room: speaks with a person. One thin file per command.

Nothing heavy is imported at module level below this package, so that `--help` answers at once;
`tests/cli/test_startup.py` holds it to that.
"""
