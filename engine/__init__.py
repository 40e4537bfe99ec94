"""The engine room: asks the model how it would answer, and how sure it is.

Pools, prompts, perturbations, the pair plan, the measures, and the scoring routes that plug into a
stock vLLM server, with the client that calls them. vLLM is imported below `engine.server` only.
"""
