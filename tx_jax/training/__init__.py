"""Optimizer, train step, loop, checkpoints and what a run directory tells."""
