"""What trains a model: losses, negatives, optimizer, checkpoints."""
