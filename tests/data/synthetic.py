"""A split in memory, made of given sentence lengths, so that every token tells where it stands."""

import numpy as np


class SyntheticSplit:
    """Stands in for `corpus.Split`. Token number i has id `first_id + i`, so positions can be recovered."""

    fingerprint = ""  # lies in no store, so nothing can be kept beside it

    def __init__(self, documents: list[list[int]], first_id: int = 10):
        lengths = [length for document in documents for length in document]
        self.sentence_offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.document_offsets = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype(np.int64)
        self.num_documents, self.num_sentences = len(documents), len(lengths)
        self.num_tokens = int(self.sentence_offsets[-1])
        self.first_id = first_id
        self.name = "synthetic (train)"

    def read(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        runs = [np.arange(a, b) for a, b in zip(starts, ends, strict=True)]
        return (np.concatenate(runs) + self.first_id).astype(np.int32)

    def document_of(self, token_positions: np.ndarray) -> np.ndarray:
        """The document that each token position lies in."""
        bounds = self.sentence_offsets[self.document_offsets]
        return np.searchsorted(bounds, token_positions, side="right") - 1


class OneSentenceDocuments(SyntheticSplit):
    """Documents of one sentence each, without Python lists: for splits of millions of documents."""

    def __init__(self, lengths: np.ndarray, first_id: int = 10):
        super().__init__([], first_id)
        self.sentence_offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.document_offsets = np.arange(len(lengths) + 1)
        self.num_documents = self.num_sentences = len(lengths)
        self.num_tokens = int(self.sentence_offsets[-1])


def random_split(seed: int, num_documents: int, max_sentences: int = 30, max_length: int = 40) -> SyntheticSplit:
    rng = np.random.default_rng(seed)
    return SyntheticSplit(
        [rng.integers(1, max_length + 1, rng.integers(1, max_sentences + 1)).tolist() for _ in range(num_documents)]
    )
