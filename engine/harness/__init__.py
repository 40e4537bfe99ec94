"""The evaluation harness of EleutherAI, `lm_eval`, asking our engine; read against 0.4.13.

Importing the model registers it there under the name `jostle`.
"""
