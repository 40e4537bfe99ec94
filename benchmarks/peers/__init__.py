"""Other people's ways of doing what jostle does, run beside it."""
