"""Prediction with trained models: maps, decoding to cells, batches of files."""
