"""What the scripts share: pairs, turns, results, models."""
