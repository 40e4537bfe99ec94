"""What stands between a request and the engine: routes, access, limits, metrics."""
