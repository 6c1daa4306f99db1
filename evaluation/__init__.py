"""Retrieval truth: index, ranks, metrics, baselines, statistics, table and report; README.md lists the rooms."""
