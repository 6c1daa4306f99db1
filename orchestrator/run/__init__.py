"""The run folder: ledger, manifest, timeline."""
