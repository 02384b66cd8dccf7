"""What pytest leaves alone here."""

# Looking for doctests imports a module, and PyTorch is not everywhere.
collect_ignore = ['torch_network.py']
