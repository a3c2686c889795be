"""Makes a store of pairs to learn translation from: both sides encoded, with a tokenizer that they share.

    python -m experiments.prepare_pairs --train=train.de,train.en --validation=val.de,val.en --test=test.de,test.en \\
        --store=data/de_en --vocab_size=8000
    python -m experiments.prepare_pairs --train=pairs.jsonl --validation=held_out.jsonl --columns=de,en \\
        --store=data/de_en

To train a translation model further, give its folder, and of several languages the two of the pairs:

    python -m experiments.prepare_pairs --tokenizer=models/mbart/tokenizer --source_language=en_XX \\
        --target_language=ro_RO --train=train.en,train.ro --validation=val.en,val.ro --store=data/en_ro

Each split is two files whose lines belong together, source first; or one table (.tsv, .csv) or JSON lines file, whose
columns --columns names; or tfds:wmt14_translate/de-en#train with --columns=de,en. Files may be compressed. Pairs with
an empty side are left out, and counted; so are, in training, pairs longer than data.sequence_length.
"""

from absl import flags

from experiments import command_line, model_flags
from tx_jax import text

TRAIN = flags.DEFINE_string("train", None, "The pairs to train on.")
VALIDATION = flags.DEFINE_string("validation", None, "Held-out pairs, for evaluation during training.")
TEST = flags.DEFINE_string("test", None, "Held-out pairs for the end.")
STORE = flags.DEFINE_string("store", None, "The folder to make.")
COLUMNS = flags.DEFINE_list("columns", ["source", "target"], "Names of the two columns of a table or of JSON lines.")
TOKENIZER = flags.DEFINE_string("tokenizer", None, "Folder of a tokenizer to use instead of training one.")
KIND = flags.DEFINE_enum("tokenizer_kind", "sentencepiece_bpe", text.KINDS, "Kind of the tokenizer to train.")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 8000, "Size of the vocabulary to train, which both sides share.")
SOURCE_LANGUAGE, TARGET_LANGUAGE = model_flags.define_languages()
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what is in --store.")
TFDS_DATA_DIR = flags.DEFINE_string("tfds_data_dir", None, "Folder of the TFDS data sets; default: TFDS's own.")


def main(argv: list[str]) -> int:
    del argv
    if not (TRAIN.value and VALIDATION.value and STORE.value):
        command_line.fail("needed: --train, --validation and --store, such as --train=a.de,a.en --validation=b.de,b.en")
    if len(COLUMNS.value) != 2:
        command_line.fail(f"--columns={','.join(COLUMNS.value)} must name two columns: the source's and the target's")
    for name in ("tokenizer_kind", "vocab_size"):
        if TOKENIZER.value and flags.FLAGS[name].present:
            command_line.fail(f"--{name} is for training a tokenizer, but --tokenizer gives one: drop one of them")
    for name in ("source_language", "target_language"):
        if not TOKENIZER.value and flags.FLAGS[name].present:
            command_line.fail(f"--{name} chooses among the languages of a --tokenizer: give one, or leave it out")
    from experiments.next_steps import after_preparing_pairs
    from tx_jax.data.translation.sources import PairSource
    from tx_jax.data.translation.store import prepare
    from tx_jax.files import local_path, path_of
    from tx_jax.text.pair_forms import speaking

    given = {"train": TRAIN.value, "validation": VALIDATION.value, "test": TEST.value}
    columns = tuple(COLUMNS.value)
    sources = {name: PairSource(spec, columns, TFDS_DATA_DIR.value) for name, spec in given.items() if spec}
    tokenizer = None
    if TOKENIZER.value:
        languages = {"source": SOURCE_LANGUAGE.value or "", "target": TARGET_LANGUAGE.value or ""}
        tokenizer = speaking(text.load(TOKENIZER.value), **languages)
    store = prepare(
        local_path(STORE.value, "--store"),
        sources,
        tokenizer=tokenizer,
        kind=KIND.value,
        vocab_size=VOCAB_SIZE.value,
        overwrite=OVERWRITE.value,
    )
    for name, split in store.meta["splits"].items():
        left_out = f"; {split['empty']:,} with an empty side are left out" if split["empty"] else ""
        print(
            f"{name}: {split['pairs']:,} pairs, {split['source_tokens']:,} and {split['target_tokens']:,} tokens"
            f"{left_out}"
        )
    print(f"vocabulary: {store.vocab_size:,} tokens, for both sides")
    print(f"next: {after_preparing_pairs(path_of(STORE.value, '--store'), store.vocab_size, TOKENIZER.value)}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
