"""The command line: one module for each `cellseg` command."""
