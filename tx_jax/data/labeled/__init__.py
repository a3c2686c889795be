"""Labeled examples: from files to records to rows."""
