"""Parts of one's own, one of each kind."""
