"""Pages to look at: of a training run, and of a folder of segmented files."""
