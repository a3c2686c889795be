"""SentencePiece (Kudo and Richardson 2018): unigram language models (Kudo 2018) and BPE over characters.

A text is normalized with the table in the model (usually NFKC) and split at white space into words. Each word gets a
leading "▁" and is then split into its most probable pieces (unigram) or merged from its characters (BPE). A run of
characters that are not in the vocabulary becomes one unknown token. `sentencepiece` trains; the `tokenizers` library
encodes, as in transformers. Tests compare the two: they differ only in the order of pieces where both orders are
equally probable ("0", "00" for "000") and rounding decides.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tx_jax.errors import InputError, did_you_mean
from tx_jax.text.chunks import CHUNK_CHARACTERS, counted, until_many_words
from tx_jax.text.definition import describe
from tx_jax.text.engine import EngineTokenizer, starts_spaceless
from tx_jax.text.pair_forms import PairForm, codes_of

SPACE = "▁"
FAIRSEQ = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
BERT = {
    "pad": "[PAD]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "unk": "[UNK]",
    "mask": "[MASK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
}
T5 = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
LAYOUTS = ("xlm_roberta", "camembert", "deberta_v2", "t5", "mbart", "mbart50")
_NAMES = {"deberta_v2": BERT, "t5": T5}  # of the others FAIRSEQ
# The languages of mBART (Liu et al. 2020) and those that mBART-50 adds (Tang et al. 2020), in the order of their ids.
_MBART = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX "
    "ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
_MBART50 = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN "
    "te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
_CODES = {"mbart": _MBART.split(), "mbart50": [*_MBART.split(), *_MBART50.split()]}
_MBART_CLASSES = {"mbart": "MBartTokenizer", "mbart50": "MBart50Tokenizer"}
NUM_SENTINELS = 100
# Kinds of piece in a model file.
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
# Fixed on every machine, because the results depend on it.
_TRAINING_THREADS = 4


class SentencePiece(EngineTokenizer):
    """A SentencePiece vocabulary, unigram or BPE.

    Whole words are separated by white space: a piece continues a word unless it begins with "▁", so punctuation
    belongs to the word that it touches. In scripts written without spaces (Chinese, Japanese, Thai and others) every
    piece is its own word.

    Args:
      definition: the contents of a tokenizer.json whose model is Unigram or BPE and that writes spaces as "▁".
      names: the special token of each role; see `EngineTokenizer`.
    """

    has_control_pieces = True

    @property
    def tokenizer_class(self) -> str:
        """The transformers class that gives the same ids.

        The model-specific classes keep only the pieces and the normalization table; DeBERTa's drops the table too.
        """
        plain = _pipeline(Engine(models.BPE()))
        model, names = self._definition["model"], self._names
        normalizer = self._definition["normalizer"]
        is_plain = self._definition["pre_tokenizer"] == plain["pre_tokenizer"] and (
            normalizer is None or normalizer["type"] == "Precompiled"
        )
        is_plain = is_plain and not self._has_segments
        if name := _MBART_CLASSES.get(form := self.pair_form.name):
            return name if _is_mbarts(self._definition, form) else super().tokenizer_class
        if is_plain and model["type"] == "Unigram" and not model["byte_fallback"]:
            first = self._vocabulary[: model["unk_id"] + 1]
            if names == FAIRSEQ and first == ("<s>", "<pad>", "</s>", "<unk>"):
                return "XLMRobertaTokenizer"
            if names == FAIRSEQ and first == ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"):
                return "CamembertTokenizer"
            if names == T5 and first == ("<pad>", "</s>", "<unk>"):
                return "T5Tokenizer"
        return super().tokenizer_class

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        if self.pair_form.name in _MBART_CLASSES:
            return config | {"src_lang": self.pair_form.source_language, "tgt_lang": self.pair_form.target_language}
        if self.tokenizer_class == "T5Tokenizer":
            return config | {"extra_ids": sum(token.startswith("<extra_id_") for token in self._vocabulary)}
        # The general class returns no segment ids by default; here the second text of a pair has its own segment.
        if self._has_segments:
            return config | {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        return config

    def with_pair_form(self, form: PairForm) -> Self:
        changed = super().with_pair_form(form)
        if form.name in _MBART_CLASSES and form.source_language:  # transformers adds the tokens of a source by this
            codes = codes_of(changed, form.name)
            code, end = form.source_language, self._names["eos"]
            text = f"$A {end} {code}" if form.name == "mbart" else f"{code} $A {end}"
            processor = _processor(text, text.replace("$A", "$A $B"), [(code, codes[code]), (end, self.eos_id)])
            changed._definition = {**self._definition, "post_processor": processor}
        return changed

    @property
    def _has_segments(self) -> bool:
        """Whether the second text of a pair has its own segment."""
        return '"type_id": 1' in json.dumps(self._definition["post_processor"])

    def _begins_word(self, token: str) -> bool:
        return token.startswith(SPACE) or starts_spaceless(token)


def from_model(
    serialized: bytes,
    *,
    layout: str,
    lowercase: bool = False,
    split_by_punct: bool = False,
    num_sentinels: int = NUM_SENTINELS,
) -> SentencePiece:
    """Build a tokenizer from the bytes of a SentencePiece model file.

    Args:
      serialized: the contents of the file.
      layout: how pieces are mapped to ids.
        xlm_roberta: <s> 0, <pad> 1, </s> 2, <unk> 3, then the model's pieces from the fourth on, <mask> last.
        mbart, mbart50: the same, with the codes of their languages before <mask>.
        camembert: <s>NOTUSED, <pad>, </s>NOTUSED, <unk>, <unk>NOTUSED, then the pieces from the second on, <mask> last.
        deberta_v2: the model's own ids, followed by [MASK] unless the model already has it.
        t5: the model's own ids, then the sentinels, <extra_id_0> last (Raffel et al. 2020, section 3.1.4). A text has
          no start token and ends with </s>; there is no mask token.
      lowercase: lowercase the text before the model's own normalization.
      split_by_punct: also split at punctuation.
      num_sentinels: number of sentinels, for the layout t5.

    Raises InputError if the bytes are not a SentencePiece model, or if the model uses an unsupported option.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: expected one of {LAYOUTS}.{did_you_mean(layout, LAYOUTS)}")
    proto = parse(serialized)
    pieces = [(piece.piece, piece.score, piece.type) for piece in proto.pieces]
    names = _NAMES.get(layout, FAIRSEQ)
    if layout in ("xlm_roberta", *_CODES):
        pieces = [(name, 0.0, _CONTROL) for name in ("<s>", "<pad>", "</s>", "<unk>")] + pieces[3:]
        pieces += [(code, 0.0, _CONTROL) for code in _CODES.get(layout, ())]
    elif layout == "camembert":
        head = (("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0))
        pieces = [(name, score, _CONTROL) for name, score in head] + pieces[1:]
    elif layout == "t5":
        pieces += [(f"<extra_id_{index}>", 0.0, _CONTROL) for index in reversed(range(num_sentinels))]
    if "mask" in names and names["mask"] not in (piece for piece, _, _ in pieces):
        pieces.append((names["mask"], 0.0, _CONTROL))
    unk = proto.trainer_spec.unk_piece if layout in ("deberta_v2", "t5") else names["unk"]
    names = {**names, "unk": unk}
    ids = {piece: index for index, (piece, _, _) in enumerate(pieces)}
    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM:
        scored = [(piece, score) for piece, score, _ in pieces]
        engine = Engine(models.Unigram(scored, unk_id=ids[unk], byte_fallback=byte_fallback))
    else:
        engine = Engine(models.BPE(ids, _merges(pieces), unk_token=unk, fuse_unk=True, byte_fallback=byte_fallback))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    definition = _pipeline(engine, charsmap=charsmap, lowercase=lowercase, split_by_punct=split_by_punct)
    definition["post_processor"] = _template(names, ids, layout)
    definition["added_tokens"] = [
        _added(index, piece, special=kind != _USER_DEFINED)
        for index, (piece, _, kind) in enumerate(pieces)
        if kind in (_CONTROL, _USER_DEFINED, _UNUSED)
    ]
    return SentencePiece(definition, names)


def parse(serialized: bytes) -> sentencepiece_model_pb2.ModelProto:
    """Parse a model file. Raises InputError if it is not a SentencePiece model or not a supported one."""
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(serialized)
    except Exception as error:  # each protobuf implementation raises a different class
        raise InputError(f"this is not a SentencePiece model ({error}): copy the file again") from None
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces:
        raise InputError("this is not a SentencePiece model (it has no pieces): copy the file again")
    if trainer.model_type not in (trainer.UNIGRAM, trainer.BPE):
        raise InputError("the SentencePiece model consists of words or characters: only unigram and BPE are supported")
    if trainer.treat_whitespace_as_suffix or not (normalizer.add_dummy_prefix and normalizer.escape_whitespaces):
        raise InputError('the SentencePiece model does not mark the beginning of words by "▁": it is not supported')
    return proto


def _merges(pieces: Sequence[tuple[str, float, int]]) -> list[tuple[str, str]]:
    """The merges of SentencePiece's BPE: every split of a piece into two pieces, the best-scoring piece first."""
    ids = {piece: index for index, (piece, _, _) in enumerate(pieces)}
    merges = []
    for piece, score, kind in pieces:
        if kind in (_CONTROL, _USER_DEFINED, _UNUSED):
            continue
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        known = [(ids[left], ids[right], left, right) for left, right in cuts if left in ids and right in ids]
        merges += [(-score, ids[piece], left, right) for _, _, left, right in sorted(known)]
    return [(left, right) for _, _, left, right in sorted(merges, key=lambda merge: merge[:2])]


def _pipeline(
    engine: Engine, *, charsmap: bytes = b"", lowercase: bool = False, split_by_punct: bool = False
) -> dict[str, Any]:
    """The definition of this engine with SentencePiece's normalizer, pre-tokenizer and decoder."""
    steps = [normalizers.Lowercase()] if lowercase else []
    steps += [normalizers.Precompiled(charsmap)] if charsmap else []
    if steps:
        engine.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)
    cuts = [pre_tokenizers.Punctuation(behavior="isolated")] if split_by_punct else []
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), *cuts, pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
    )
    engine.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    return describe(engine)


def _template(names: Mapping[str, str], ids: Mapping[str, int], layout: str) -> dict[str, Any]:
    """The post-processor that adds special tokens to a text and to a pair, as in transformers."""
    cls, end = names.get("cls"), names["eos"]
    if missing := [name for name in (cls, end) if name and name not in ids]:
        raise InputError(
            f"the SentencePiece model has no piece {' and no piece '.join(missing)}: give it another layout"
        )
    pairs = {
        "deberta_v2": f"{cls}:0 $A:0 {end}:0 $B:1 {end}:1",
        "t5": f"$A {end} $B {end}",
    }
    single = f"{cls} $A {end}" if cls else f"$A {end}"
    pair = pairs.get(layout, f"{cls} $A {end} {end} $B {end}")
    return _processor(single, pair, [(name, ids[name]) for name in (cls, end) if name])


def _processor(single: str, pair: str, special_tokens: list[tuple[str, int]]) -> dict[str, Any]:
    engine = Engine(models.BPE())
    engine.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special_tokens)
    return describe(engine)["post_processor"]


def _is_mbarts(definition: Mapping[str, Any], form: str) -> bool:
    """Whether transformers' class for this form of mBART's splits texts as the definition does."""
    normalizer, splitter = definition["normalizer"], definition["pre_tokenizer"]
    if form == "mbart":
        return normalizer is None and splitter == _pipeline(Engine(models.BPE()))["pre_tokenizer"]
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    kinds = [step["type"] for step in steps]
    return kinds in (["Replace"], ["Precompiled", "Replace"]) and splitter["type"] == "Metaspace"


def _added(index: int, piece: str, *, special: bool) -> dict[str, Any]:
    properties = {"single_word": False, "lstrip": piece in ("<mask>", "[MASK]"), "rstrip": False, "normalized": False}
    return {"id": index, "content": piece, **properties, "special": special}


def train(
    documents: Iterable[str],
    *,
    algorithm: str = "unigram",
    layout: str = "xlm_roberta",
    vocab_size: int = 32_000,
    lowercase: bool = False,
    character_coverage: float = 0.9995,
    progress: Callable[[int], None] | None = None,
) -> SentencePiece:
    """Learn a SentencePiece vocabulary; the same documents give the same vocabulary in every process.

    Args:
      documents: read once, as a stream, up to the limit of `until_many_words`.
      algorithm: "unigram" or "bpe".
      layout: "xlm_roberta" (<s> 0, <pad> 1, </s> 2, <unk> 3, the pieces, <mask> last) or "t5" (<pad> 0, </s> 1,
        <unk> 2, the pieces, 100 sentinels).
      vocab_size: target size; a small corpus may give fewer tokens.
      lowercase: fold case (with the normalization table nmt_nfkc_cf instead of nmt_nfkc).
      character_coverage: fraction of the text's characters that the vocabulary covers, 0.98 to 1; the others become
        <unk>.
      progress: called with the number of characters read so far.

    Raises InputError if the documents have no text, or `vocab_size` is too small for their characters.
    """
    words = count_words(documents, progress)
    if not words:
        raise InputError("no text to train the tokenizer on: the documents are empty or hold only white space")
    if not 0.98 <= character_coverage <= 1:
        raise InputError(f"{character_coverage=}: SentencePiece takes 0.98 to 1")
    if layout == "t5":
        ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
        num_pieces = vocab_size - NUM_SENTINELS
    else:  # the layout's five special tokens replace the model's own <unk>, <s> and </s>
        ids, num_pieces = {}, vocab_size - 5 + 3
    try:
        model = train_model(
            words,
            model_type=algorithm,
            vocab_size=num_pieces,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            **ids,
        )
    except RuntimeError as error:
        raise InputError(
            f"no vocabulary of {vocab_size=} can be learned from these documents, says SentencePiece ({error}): raise "
            "vocab_size, or lower character_coverage"
        ) from None
    return from_model(model, layout=layout)


def train_model(words: Iterable[tuple[str, int]], **options: Any) -> bytes:
    """Train SentencePiece on words and their counts, and return the model file. `options` are passed to its trainer.

    The trainer reduces sentences to words with counts anyway. Given those directly, no line is too long for it, and its
    memory grows only with the number of distinct words. Raises RuntimeError if training fails.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{count}" for word, count in words),
        input_format="tsv",
        model_writer=model,
        max_sentence_length=8 * CHUNK_CHARACTERS,
        hard_vocab_limit=False,
        num_threads=_TRAINING_THREADS,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def count_words(documents: Iterable[str], progress: Callable[[int], None] | None = None) -> list[tuple[str, int]]:
    """Words and their counts, the most frequent first. Long words are cut into chunks."""
    counts: Counter[str] = Counter()
    for document in until_many_words(counted(documents, progress)):
        for word in document.replace("\0", " ").split():
            counts.update(word[start : start + CHUNK_CHARACTERS] for start in range(0, len(word), CHUNK_CHARACTERS))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
