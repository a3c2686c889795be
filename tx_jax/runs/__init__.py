"""What a run leaves on disk, and what reads it: the run directory, checkpoints, metrics, pictures."""
