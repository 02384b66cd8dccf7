"""Image files and label images: reading, writing, checks and measurements."""
