"""What a scoring asks the engine: the plan of a task's pairs and samples, and the scorer."""
