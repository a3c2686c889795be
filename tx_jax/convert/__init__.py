"""Imports and exports weights: Hugging Face folders, and the folder format of a converted model."""
