"""Files of prompts and completions, and what they become with log-probabilities beside them."""
