"""Decoding in pure JAX, with the results of `inference.decode`.

No shape depends on the data, so that `segment` runs as one compiled program.
"""
