"""Aligned sequences as row numbers: windows, splits by article, and the stream that feeds training."""
