"""How sure a mean over instances and perturbations is: moves, components, pooling, overlap."""
