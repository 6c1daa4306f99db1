"""Retrieval truth: index, per-query ranks, metrics, baselines, significance, table and report."""
