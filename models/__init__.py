"""The models and what trains them: SSD blocks, variants, the AMN baseline, losses, checkpoints."""
