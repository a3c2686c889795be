"""Runs of several processes: how they connect, watch each other, and stop together."""
