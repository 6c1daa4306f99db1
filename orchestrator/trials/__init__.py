"""One trial and all of them: setup, training loop, scheduler, Tune."""
