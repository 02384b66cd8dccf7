"""From trained models to cells: prediction, decoding and output files."""
