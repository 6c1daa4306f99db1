"""Intervals, tests and the decision."""
