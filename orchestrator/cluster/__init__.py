"""Ray: start or join it, what fits where, the actors that all trials share."""
