"""Where tasks come from: readers for task files, and the pool that ships with the package."""
