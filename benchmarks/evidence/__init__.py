"""What the questions of docs/evidence.md are answered with: subsets, training, analysis."""
