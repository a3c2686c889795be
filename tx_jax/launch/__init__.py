"""Trainings on TPU VMs: the life cycle of a queued resource and of the run on it, by `gcloud`."""
