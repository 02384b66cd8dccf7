"""Decoding in pure JAX: as `inference.decode`, in one compiled program."""
