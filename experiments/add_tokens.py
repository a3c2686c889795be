"""Adds words to a model's vocabulary, each as one token. This is the first step of further pretraining.

    python -m experiments.add_tokens --model=models/bert --new_tokens=covid,coronavirus \\
        --similar='covid=virus,pandemic;coronavirus=virus' --out=models/bert_covid

--model is a run directory, a converted model, or a Hugging Face model. The embedding of a new word starts as the mean
of its similar words, or of the tokens that it used to be split into. The result in --out is a converted model: pass it
as --config.start_from, and its tokenizer to experiments.prepare as --tokenizer=models/bert_covid/tokenizer.
"""

import sys

from absl import flags

from experiments import command_line

MODEL = flags.DEFINE_string("model", None, "A run directory, a converted model, or a Hugging Face model.")
NEW_TOKENS = flags.DEFINE_string("new_tokens", "", "Comma-separated words, or a file with one word per line.")
SIMILAR = flags.DEFINE_string("similar", "", "WORD=SIMILAR,SIMILAR;WORD=... or a file with one such entry per line.")
OUT = flags.DEFINE_string("out", None, "Folder for the new model; it must not exist yet.")


def main(argv: list[str]) -> int:
    if not MODEL.value or not OUT.value:
        command_line.fail("needed: --model and --out; see --help")
    from experiments.next_steps import after_adding_tokens
    from experiments.word_lists import read_similar, read_words
    from tx_jax.convert import model_dir, new_tokens
    from tx_jax.files import check_free, path_of
    from tx_jax.runs.open_model import open_model

    check_free(path_of(OUT.value, "--out"))
    words, similar = read_words(NEW_TOKENS.value), read_similar(SIMILAR.value)
    before = open_model(MODEL.value, heads=("masked_lm", "pooled"))
    after = new_tokens.add_tokens(before, words, similar)
    model_dir.save(after, path_of(OUT.value, "--out"))
    if "masked_lm" in after.untrained:
        print(
            "warning: the model has no trained masked LM head: its output layer starts from random values",
            file=sys.stderr,
        )
    for word in words:
        (pieces,) = before.tokenizer.encode_words([word])
        as_before = " ".join(before.tokenizer.tokens(pieces))
        print(f"{word}: was {as_before}; starts as the mean of {', '.join(similar.get(word, [as_before]))}")
    added = len({ids for (ids,) in after.tokenizer.encode_words(words)})  # two words may normalize to the same form
    print(f"{OUT.value}: {after.tokenizer.vocab_size:,} tokens, {added} of them new")
    print(f"next: {after_adding_tokens(path_of(OUT.value, '--out'))}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
