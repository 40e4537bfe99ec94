"""The engine as a child process: how it is started, set up and ended with its parent."""
