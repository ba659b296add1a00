"""Solvers: update rules, learning rates, the training loop, snapshots."""
