"""Runs an experiment: configuration, admission, trials, gates, ledger and the command line."""
