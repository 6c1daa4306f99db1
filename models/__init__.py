"""The models and what trains them: specs without torch, blocks, kernels for a CPU, losses, optimizer, checkpoints."""
