"""Whole models, and the registry that builds them from a configuration."""
