"""Changes the model: selection, fine-tuning, publishing of weights, evaluation, rounds, report."""
