"""WordPiece, BERT's tokenizer (Devlin et al. 2018, after Wu et al. 2016), run by the `tokenizers` library.

Words are split greedily, longest piece first. Pieces inside a word have the prefix "##". A word that cannot be built
from the vocabulary, or is longer than 100 characters, becomes one [UNK].
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError
from tx_jax.text.alignment import Aligned, align
from tx_jax.text.chunks import chunks, counted
from tx_jax.text.definition import nameless, write_json
from tx_jax.text.seen_words import BERT, SeenWords, as_lists
from tx_jax.text.tokenizer import Tokenizer

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"


class WordPiece(Tokenizer):
    """A WordPiece vocabulary with BERT's normalization.

    Args:
      vocabulary: the tokens in id order; must contain the five special tokens, at any position.
      lowercase: lowercase the text before encoding.
      strip_accents: remove combining accents before encoding; None follows `lowercase`, as BERT does. For Spanish, pass
        False with lowercase=True: stripping turns "año" into "ano".
      split_chinese: make every CJK ideograph its own word.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
    ):
        ids = {token: index for index, token in enumerate(vocabulary)}
        if missing := [token for token in SPECIAL_TOKENS if token not in ids]:
            raise InputError(
                f"the WordPiece vocabulary lacks {' '.join(missing)}: BERT's five special tokens are needed"
            )
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.split_chinese = split_chinese
        self.vocab_size = len(vocabulary)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (ids[token] for token in SPECIAL_TOKENS)
        self.bos_id, self.eos_id = self.cls_id, self.sep_id
        self._vocabulary = tuple(vocabulary)
        settings = {"kind": "wordpiece", "vocabulary": self._vocabulary, **self._normalization()}
        self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        # The special tokens are deliberately not registered with this engine. "[MASK]" in a text is then encoded as
        # three plain pieces, so no text can forge a special token. `save` registers them, as transformers expects.
        self._engine = Engine(models.WordPiece(ids, unk_token=UNK, continuing_subword_prefix=PREFIX))
        self._engine.normalizer = _normalizer(self)
        self._engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._engine.decoder = decoders.WordPiece(prefix=PREFIX)
        self._seen = SeenWords(BERT, self._encode_once)

    def _normalization(self) -> dict[str, bool]:
        names = ("lowercase", "strip_accents", "split_chinese")
        return {name: getattr(self, name) for name in names}

    def __reduce__(self):  # pickling, to send a tokenizer to worker processes
        return _rebuild, (self._vocabulary, self._normalization())

    def _normalize(self, word: str) -> str:
        return "".join(self._engine.normalizer.normalize_str(word).split())  # drop spaces put around ideographs

    def _extended(self, words: Sequence[str]) -> "WordPiece":
        return WordPiece([*self._vocabulary, *words], **self._normalization())

    def _reserved(self, ids: range) -> "WordPiece":
        return WordPiece([*self._vocabulary, *map(nameless, ids)], **self._normalization())

    def with_pad(self) -> "WordPiece":
        return self

    @cached_property
    def is_continuation(self) -> np.ndarray:
        mask = np.array([token.startswith(PREFIX) and token != PREFIX for token in self._vocabulary])
        mask.flags.writeable = False
        return mask

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return as_lists(*self.encode_flat(texts))

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self._seen.flat(texts)

    def _encode_once(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._engine.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        return align(self._engine, texts)

    def decode(self, ids: Iterable[int]) -> str:
        return self._engine.decode([int(token_id) for token_id in ids], skip_special_tokens=False)

    def save(self, directory: str | Path) -> None:
        """Write vocab.txt and the three JSON files from which transformers' AutoTokenizer builds the same tokenizer."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in self._vocabulary), encoding="utf-8")
        engine = Engine.from_str(self._engine.to_str())
        engine.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
        engine.post_processor = template(CLS, SEP, {CLS: self.cls_id, SEP: self.sep_id})
        engine.save(str(directory / "tokenizer.json"))
        names = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
        write_json(directory / "special_tokens_map.json", names)
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.split_chinese,
            **names,
        }
        write_json(directory / "tokenizer_config.json", config)


def _rebuild(vocabulary: Sequence[str], normalization: dict[str, bool]) -> WordPiece:
    return WordPiece(vocabulary, **normalization)


def template(cls: str, sep: str, ids: Mapping[str, int]) -> processors.TemplateProcessing:
    """The post-processor that adds BERT's special tokens to a text and to a pair."""
    return processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )


def _normalizer(settings: WordPiece) -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.split_chinese,
        strip_accents=settings.strip_accents,
        lowercase=settings.lowercase,
    )


def train(
    documents: Iterable[str],
    *,
    vocab_size: int = 30_522,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    min_frequency: int = 2,
    character_coverage: float = 0.9999,
    progress: Callable[[int], None] | None = None,
) -> WordPiece:
    """Learn a WordPiece vocabulary; the same documents give the same vocabulary in every process.

    Special tokens get the ids 0 to 4, followed by the alphabet, its "##" forms, and the pieces in the order in which
    they were learned.

    Args:
      documents: read once, as a stream; kept on disk during training, not in memory.
      vocab_size: target size; a small corpus may give fewer tokens.
      lowercase, strip_accents: as for `WordPiece`.
      min_frequency: pairs of pieces rarer than this are not merged.
      character_coverage: the alphabet consists of the most frequent characters that make up this fraction of the text;
        words with any other character become [UNK]. This is some hundred characters for European
        languages, thousands for Chinese.
      progress: called with the number of characters read so far.

    Raises InputError if the documents contain no text, or `vocab_size` is too small for the alphabet.
    """
    normalization = {"lowercase": lowercase, "strip_accents": strip_accents}
    untrained = WordPiece(SPECIAL_TOKENS, **normalization)
    with TemporaryFile("w+", encoding="utf-8", newline="\n") as spool:
        counts = _spool(documents, spool, progress)
        alphabet = _alphabet(counts, untrained, character_coverage)
        if not alphabet:
            raise InputError("no text to train the tokenizer on: the documents are empty or hold only white space")
        joining = [PREFIX + character for character in alphabet if _joins(character, untrained)]
        initial = [*SPECIAL_TOKENS, *alphabet, *joining]
        if len(initial) >= vocab_size:
            raise InputError(
                f"vocab_size={vocab_size} cannot hold the {len(initial)} tokens of the alphabet: raise it, or lower "
                "character_coverage"
            )
        spool.seek(0)
        return WordPiece(_learn(untrained, spool, initial, vocab_size, min_frequency), **normalization)


def _spool(documents: Iterable[str], spool: TextIO, progress: Callable[[int], None] | None) -> Counter[str]:
    """Write the documents to `spool`, one chunk per line, and count their characters.

    The alphabet must be known before training, and the documents can be read only once.
    """
    counts: Counter[str] = Counter()
    for document in counted(documents, progress):
        for chunk in chunks(document):
            counts.update(chunk)
            spool.write(chunk + "\n")
    return counts


def _learn(untrained: WordPiece, chunks: Iterable[str], initial: list[str], size: int, min_frequency: int) -> list[str]:
    """Run the library's trainer.

    The trainer numbers the alphabet in hash-map order and breaks ties between equally frequent pairs by those numbers,
    so two runs can differ. Passing the alphabet as special tokens fixes the numbers.
    """
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=initial,
        limit_alphabet=0,
        show_progress=False,
        continuing_subword_prefix=PREFIX,
    )
    engine = Engine(models.WordPiece(unk_token=UNK))
    engine.normalizer = _normalizer(untrained)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.train_from_iterator(chunks, trainer)
    vocabulary = engine.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def _alphabet(counts: Counter[str], untrained: WordPiece, coverage: float) -> list[str]:
    """The most frequent characters after normalization that together cover a fraction `coverage` of the text.

    They are in code point order.
    """
    normalizer = _normalizer(untrained)
    normalized: Counter[str] = Counter()
    for character, count in counts.items():
        for result in "".join(normalizer.normalize_str(character).split()):
            normalized[result] += count
    kept, missing = [], coverage * normalized.total()
    for character in sorted(normalized, key=lambda character: (-normalized[character], character)):
        if missing <= 0:
            break
        kept.append(character)
        missing -= normalized[character]
    return sorted(kept)


def _joins(character: str, untrained: WordPiece) -> bool:
    """Whether the character can occur inside a word; punctuation marks and ideographs are separate words."""
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return len(pre_tokenizer.pre_tokenize_str(_normalizer(untrained).normalize_str("a" + character))) == 1
