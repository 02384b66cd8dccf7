"""Segmentation on Dask clusters; requires the optional extra `[cluster]`.

Small files are one task each; a large file is split into block tasks.
"""
