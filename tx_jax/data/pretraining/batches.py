"""Builds the batches that a configuration describes."""

import hashlib

from tx_jax.config import DataConfig
from tx_jax.config.data import CAUSAL, MASKED
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.corpus.token_store import Split, TokenStore
from tx_jax.data.loader import Examples, Loader
from tx_jax.data.pretraining.byte_lengths import byte_lengths
from tx_jax.data.pretraining.chunks import Chunks
from tx_jax.data.pretraining.masking import Masking
from tx_jax.data.pretraining.mixture import Mixture, smoothed_shares
from tx_jax.data.pretraining.packed_documents import PackedDocuments
from tx_jax.data.pretraining.packing import DocSentences, FullSentences
from tx_jax.data.pretraining.pairs import SentencePairs
from tx_jax.data.pretraining.selective import WordList, kept_counts, read_words
from tx_jax.data.pretraining.targets import CausalTargets, MaskedTargets, RateSchedule
from tx_jax.data.pretraining.word_counts import WordCounts
from tx_jax.errors import InputError
from tx_jax.text import Tokenizer


def masked_lm_batches(
    stores: Stores | TokenStore,
    split: str,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    repeat: bool,
    **options: int,
) -> Loader:
    """Loader for a masked LM. `options`: further ones of `Loader`.

    A mask rate that changes over the steps does so only while repeating; a single pass is masked at `config.mask_rate`.
    Raises InputError for a packing that is not for masked models, and for a tokenizer that lacks a special token.
    """
    if config.packing not in MASKED:
        raise InputError(f"data.packing={config.packing!r} is for causal models: choose one of {', '.join(MASKED)}")
    if not config.mask_rate:
        raise InputError("data.mask_rate=0 leaves a masked LM nothing to predict")
    tokenizer = stores.tokenizer()
    tokenizer.require("pad", "cls", "sep", "mask", source=config.store)
    masking = Masking(
        rate=config.mask_rate,
        max_predictions=config.max_predictions,
        replace_with_mask=config.replace_with_mask,
        replace_with_random=config.replace_with_random,
        mask_id=tokenizer.mask_id,
        vocab_size=stores.vocab_size,
        special_ids=tokenizer.special_ids,
    )
    targets = MaskedTargets(
        masking,
        RateSchedule(config.mask_rate, config.mask_rate_end, config.mask_rate_steps if repeat else 0),
        unit=config.mask_unit,
        is_continuation=tokenizer.is_continuation,
        span_probability=config.span_probability,
        span_max_words=config.span_max_words,
        listed=WordList(read_words(config.selective_words), tokenizer) if config.selective_words else None,
        selective_share=config.selective_share,
        rate_of=config.selective_rate_of,
    )
    dupe_factor = config.dupe_factor if config.masking == "static" else 0
    corpora = [_masked_examples(part, config, tokenizer) for part in _parts(stores, split)]
    mixture = _mixture(corpora, config, seed)
    return Loader(corpora, targets, batch_size, seed, repeat, dupe_factor, mixture, **options)


def causal_lm_batches(
    stores: Stores | TokenStore,
    split: str,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    repeat: bool,
    **options: int,
) -> Loader:
    """Loader for a causal LM. `options`: further ones of `Loader`.

    Raises InputError for a packing that is not for causal models, and for a tokenizer without an end-of-text token.
    """
    if config.packing not in CAUSAL:
        raise InputError(f"data.packing={config.packing!r} is for masked models: choose one of {', '.join(CAUSAL)}")
    tokenizer = stores.tokenizer()
    tokenizer.require("eos", source=config.store)
    targets = CausalTargets(byte_lengths(tokenizer), WordCounts(tokenizer))
    corpora = [_causal_examples(part, config, tokenizer) for part in _parts(stores, split)]
    return Loader(corpora, targets, batch_size, seed, repeat, mixture=_mixture(corpora, config, seed), **options)


def data_fingerprint(stores: Stores | TokenStore, config: DataConfig) -> str:
    """Identifies everything besides the configuration that the batches depend on: the stores and the list of words."""
    if not config.selective_words:
        return stores.fingerprint
    words = "\n".join(read_words(config.selective_words))
    return hashlib.sha256(f"{stores.fingerprint}\n{words}".encode()).hexdigest()


def words_that_never_occur(stores: Stores | TokenStore, config: DataConfig) -> list[str]:
    """The words in `config.selective_words` that no training document contains. They deserve a warning: they may be
    misspelled or in another case. None without a list. The first call with a list reads all
    tokens, about 20 million per second; the counts are kept next to the stores."""
    if not config.selective_words:
        return []
    words = WordList(read_words(config.selective_words), stores.tokenizer())
    counts = sum(kept_counts(part, words) for part in _parts(stores, "train"))
    return [word for word, count in zip(words.words, counts, strict=True) if not count]


def _parts(stores: Stores | TokenStore, split: str) -> list[Split]:
    return [store.split(split) for store in (stores.stores if isinstance(stores, Stores) else (stores,))]


def _masked_examples(part: Split, config: DataConfig, tokenizer: Tokenizer) -> Examples:
    length = config.sequence_length
    specials = {"pad_id": tokenizer.pad_id, "cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}
    if config.packing == "full_sentences":
        return FullSentences(part, sequence_length=length, **specials)
    if config.packing == "doc_sentences":
        return DocSentences(part, sequence_length=length, **specials)
    if config.packing == "packed_documents":
        return PackedDocuments(
            part,
            sequence_length=length,
            pad_id=tokenizer.pad_id,
            begin_id=tokenizer.cls_id,
            end_id=tokenizer.sep_id,
            causal=False,
        )
    return SentencePairs(
        part,
        sequence_length=length,
        single_sentences=config.packing == "sentence_pairs",
        short_sequence_probability=config.short_sequence_probability,
        num_separators=config.pair_separators,
        **specials,
    )


def _causal_examples(part: Split, config: DataConfig, tokenizer: Tokenizer) -> Examples:
    end = tokenizer.eos_id
    pad = end if tokenizer.pad_id is None else tokenizer.pad_id  # GPT-2 has none; `valid` marks the padding
    if config.packing == "chunks":
        return Chunks(part, sequence_length=config.sequence_length, pad_id=pad, end_id=end)
    return PackedDocuments(
        part, sequence_length=config.sequence_length, pad_id=pad, begin_id=end, end_id=end, causal=True
    )


def _mixture(corpora: list[Examples], config: DataConfig, seed: int) -> Mixture | None:
    if len(corpora) == 1:
        return None
    weights = config.mixture_weights or [len(examples) for examples in corpora]
    return Mixture(tuple(smoothed_shares(weights, config.mixture_alpha).tolist()), seed)
