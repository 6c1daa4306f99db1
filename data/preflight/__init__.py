"""Checks before anything trains, above all that models learn from what the index holds."""
