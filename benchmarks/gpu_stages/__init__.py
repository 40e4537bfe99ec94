"""The stages of `benchmarks.gpu`."""
