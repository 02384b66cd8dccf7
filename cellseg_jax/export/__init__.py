"""A model as a file that runs without this package."""
