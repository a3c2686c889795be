"""From documents to batches, with numpy alone: sources of documents, the token store, and the batches drawn from it."""
