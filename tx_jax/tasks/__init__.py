"""Objectives and tasks, one file each, behind the interfaces in `base.py`."""
