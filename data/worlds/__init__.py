"""Synthetic corpora whose best prediction is known: `make` makes them, `python -m data.worlds` writes one."""
