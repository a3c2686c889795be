"""From documents to batches, on numpy alone: sources of documents, the token store, and what is drawn from it."""
