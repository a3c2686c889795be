"""Pairs of texts that say the same: read, encoded, and put into batches of a few lengths."""
