"""Training: augmentation, loss, optimizer, loop, checkpoints and logs."""
