"""Baselines that are fitted to the training windows in closed form; seconds on two cores, numpy alone."""
