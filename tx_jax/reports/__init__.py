"""Runs read back for people: a page with curves and tables, and the card of an exported model."""
