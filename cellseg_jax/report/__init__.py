"""HTML reports of training runs and of folders of segmented files."""
