"""How good a model's outputs are: against gold outputs, and to a judge."""
