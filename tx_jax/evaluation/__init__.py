"""Evaluation of trained models on data, and predictions for new examples."""
