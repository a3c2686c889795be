"""Sweeps: which settings to try, the runs that try them, and what came of it."""
