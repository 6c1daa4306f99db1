"""Intervals, tests and the decision, with the article as the independent unit.

outcomes (per-query results of rows) -> articles (sums by article) -> resampling (bootstrap, sign flip)
-> significance (pairs, Holm, ties) -> verdict (which row is best, and how surely) with its sentences.
"""
