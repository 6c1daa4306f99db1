"""What the command lines do with finished runs: judge a checkpoint, compare runs, pool seeds, sweep, ablate."""
