"""Weights in and out: Hugging Face folders, and the folder that a converted model lives in."""
