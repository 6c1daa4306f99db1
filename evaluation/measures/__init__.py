"""What is measured, as plain functions: retrieval metrics from ranks, latency, rules on both."""
