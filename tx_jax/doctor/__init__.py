"""What is wrong with a machine or with an experiment, before a training finds out."""
