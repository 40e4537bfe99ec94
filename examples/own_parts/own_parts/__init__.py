"""Parts of one's own: a perturbation, a pool format, a measure and a strategy."""
