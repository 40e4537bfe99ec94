"""How sure a ranking is, and how to spend pairs: variance components, designs, the race."""
