"""Metrics of segmentations, choice of decoder settings, and figures."""
