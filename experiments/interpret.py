"""Looks inside a trained model: python -m experiments.interpret WORD --model=DIR ...

    attention   who looks at whom, as a page to click through          --text [--text_pair] --out=view.html
    heads       what each head of attention does, and which ones count --text, --input or --data=treebank.conllu
    probe       what each layer knows about words or texts             --data=treebank.conllu --label=upos
    words       one word in different contexts, layer by layer         --word=bank --text=... --text=...
    cka         how similar layers are, also to those of another model --input [--before=DIR]
    lens        what each layer would predict                          --text="The [MASK] sits."
    patch       which layers and tokens carry a prediction             --text --donor --answer [--wrong]
    attribute   which tokens a prediction comes from                   --text="The [MASK] sits."
    neighbors   which texts are near to each other                     --input [--query]
    capture     activations of many texts, into a folder               --input --activations=output --out=FOLDER
    positions   encodings of positions and their similarities          [--model] or [--length --dim]
    bias        what a masked model associates with pairs of words     [--input=pairs.json]

The model is a run, a converted model or a Hugging Face model. --text may be repeated; --input is a file with a text a
line. --out names the files to write, comma-separated; their endings say what: .png, .svg and .pdf are pictures, .csv
and .npz the numbers, .html a page. By default WORD.html, or WORD.png and WORD.csv. A flag that does nothing for a word
is refused.
"""

import dataclasses
import importlib
import sys
from pathlib import Path

from absl import flags

from experiments import command_line, model_flags, reading_flags
from experiments.word_lists import one_argument_each

PICTURES = (".png", ".svg", ".pdf")
PAGE, TABLE, ARRAYS = (".html",), (".csv",), (".npz",)
FOLDER = ()  # no file: what it writes is a folder
TEXTS = ("text", "input")


@dataclasses.dataclass(frozen=True)
class Word:
    """
    Attributes:
      run: the module of `experiments` and its function.
      takes: the flags that mean something to it, besides --model, --workdir, --step and --out.
      endings: the files that it can write; none: a folder.
      needs_model: whether it is about a model.
    """

    run: str
    takes: tuple[str, ...]
    endings: tuple[str, ...] = (*PICTURES, *TABLE, *ARRAYS)
    needs_model: bool = True


ASKED = ("answer", "wrong")
READING = ("columns", "format", "delimiter", "quote", "comment", "null_values")
WORDS = {
    "capture": Word("interpret_vectors:captured", (*TEXTS, "activations", "batch_size"), FOLDER),
    "attention": Word(
        "interpret_attention:attention", ("text", "text_pair", "layers", "heads"), (*PAGE, *PICTURES, *ARRAYS)
    ),
    "heads": Word("interpret_attention:heads", (*TEXTS, "data", *READING, "limit", "importance", "seed", "batch_size")),
    "probe": Word(
        "interpret_layers:probe", ("data", "test", *READING, "column", "label", "limit", "probe", "mdl", "seed")
    ),
    "words": Word("interpret_layers:words", (*TEXTS, "word", "sense", "show", "layers", "seed")),
    "cka": Word("interpret_layers:similarity", (*TEXTS, "before", "seed")),
    "lens": Word("interpret_layers:logit_lens", (*TEXTS, "top")),
    "patch": Word("interpret_causes:patch", (*TEXTS, "donor", *ASKED, "part", "ablate")),
    "attribute": Word("interpret_causes:attribute", (*TEXTS, *ASKED, "method", "seed")),
    "neighbors": Word("interpret_vectors:neighbors", (*TEXTS, "query", "top", "pooling", "layers", "batch_size")),
    "positions": Word("interpret_vectors:positions", ("length", "dim", "compare"), needs_model=False),
    "bias": Word("interpret_vectors:bias", ("input", "seed"), (*PICTURES, *TABLE)),
}

model_flags.define_model()
flags.adopt_module_key_flags(reading_flags)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the best, or the newest.")
flags.DEFINE_list(
    "out", None, "The files to write, comma-separated; their endings say what. Default: WORD.png,WORD.csv."
)
flags.DEFINE_multi_string("text", [], "A text. May be repeated.")
flags.DEFINE_multi_string("text_pair", [], "The second text of each --text, as in sentence pairs; or a target.")
flags.DEFINE_string("input", None, "A file with a text a line; for bias, a JSON file of pairs.")
flags.DEFINE_multi_string("query", [], "neighbors: a text whose neighbors are looked for; default: all.")
flags.DEFINE_integer("top", 5, "How many of the nearest or likeliest are shown.", lower_bound=1)
flags.DEFINE_enum("pooling", "mean", ["mean", "first", "last"], "How a text's tokens become one vector.")
flags.DEFINE_list("layers", None, "Numbers of layers, such as 0,3 or 0-5.")
flags.DEFINE_list("heads", None, "Numbers of heads of attention, from 0.")
flags.DEFINE_list("activations", None, "capture: regular expressions of names, such as layer_3/output.")
flags.DEFINE_integer("batch_size", 32, "Texts of full length a batch.", lower_bound=1)
flags.DEFINE_integer("length", 128, "positions: how many.", lower_bound=2)
flags.DEFINE_integer("dim", 512, "positions: the width of the model.", lower_bound=2)
flags.DEFINE_list("compare", ["2", "10"], "positions: two of them, whose cosine is shown.")
flags.DEFINE_string("data", None, "probe: labeled words or texts; heads: a treebank, CoNLL-U.")
flags.DEFINE_string("test", None, "probe: test data; default: a fifth of --data.")
flags.DEFINE_string("column", None, "probe: the column of the words or texts; default: form of CoNLL-U, else text.")
flags.DEFINE_string("label", None, "probe: the column of the labels, such as upos.")
flags.DEFINE_integer("limit", 0, "At most so many examples of --data; 0: all.", lower_bound=0)
flags.DEFINE_enum("probe", "linear", ["linear", "mlp", "both"], "The kind of probe.")
flags.DEFINE_bool("mdl", False, "probe: also the minimum description length.")
flags.DEFINE_multi_enum("importance", [], ["gradient", "ablation"], "heads: how much a language model needs each.")
flags.DEFINE_multi_string("word", [], "words: the word in all texts, or one for each.")
flags.DEFINE_multi_string("sense", [], "words: the sense of the word in each text.")
flags.DEFINE_enum("show", "cosine", ["cosine", "pca", "tsne"], "words: what the picture shows.")
flags.DEFINE_string("before", None, "cka: the model to compare with, such as before a fine-tuning.")
flags.DEFINE_multi_string("donor", [], "patch: the text whose activations are put in, one for each --text.")
flags.DEFINE_multi_string(
    "answer", [], "The predicted word or label that is looked at; attribute and patch --ablate: default, the likeliest."
)
flags.DEFINE_multi_string("wrong", [], "Another word or label that the answer is compared with.")
flags.DEFINE_enum("part", "hidden", ["hidden", "attention", "mlp", "heads"], "patch: what comes from the donor.")
flags.DEFINE_enum("ablate", None, ["heads", "attention", "mlp", "layers"], "patch: what is left out instead.")
flags.DEFINE_multi_enum(
    "method",
    ["gradients", "occlusion", "lime", "rollout"],
    ["gradients", "occlusion", "lime", "rollout"],
    "attribute: how. May be repeated.",
)
flags.DEFINE_integer("seed", 0, "Of whatever is drawn at random.")
_ALWAYS = ("model", "workdir", "step", "out")


def main(argv: list[str]) -> int:
    from tx_jax.errors import did_you_mean

    if not NAMES:
        command_line.fail(f"needed: a word, {', '.join(WORDS)}; see --help")
    name = NAMES[0]
    if len(NAMES) > 1 or name not in WORDS:
        wrong = name if name not in WORDS else NAMES[1]
        command_line.fail(f"{wrong!r}: give one word, {', '.join(WORDS)}.{did_you_mean(wrong, WORDS)}")
    word = WORDS[name]
    _refuse_idle(name, word)
    outs = _outs(name, word)
    model = None
    if word.needs_model or flags.FLAGS.model or flags.FLAGS.workdir:
        given = model_flags.model_name()
        command_line.keep_memory_and_programs()
        from tx_jax.runs import trained

        model = trained.load(given, STEP.value)
        model = dataclasses.replace(model, name=Path(given).name)  # as pictures and pages call it
    elif STEP.value is not None:
        command_line.fail("--step does nothing without --model")
    module, _, function = word.run.partition(":")
    getattr(importlib.import_module(f"experiments.{module}"), function)(model, outs)
    if outs:
        print(f"Written: {', '.join(map(str, outs))}")
    return 0


def _refuse_idle(name: str, word: Word) -> None:
    """A flag that does nothing is bad input."""
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.modules[__name__])]
    own += ["model", "workdir"]
    for flag in own:
        if flags.FLAGS[flag].present and flag not in (*_ALWAYS, *word.takes):
            command_line.fail(
                f"--{flag} does nothing for {name!r}, which takes {', '.join(f'--{other}' for other in word.takes)}"
            )


def _outs(name: str, word: Word) -> list[Path]:
    """The files to write, checked before any work."""
    from tx_jax.files import check_free, check_writable, is_local, path_of

    if not word.endings:
        folders = [path_of(text, "--out") for text in flags.FLAGS.out or [name]]
        if len(folders) != 1:
            command_line.fail(f"--out={','.join(flags.FLAGS.out)}: give one folder")
        check_free(folders[0])
        return folders
    usual = [f"{name}.html"] if ".html" in word.endings else [f"{name}.png", f"{name}.csv"]
    outs = [path_of(text, "--out") for text in (flags.FLAGS.out if flags.FLAGS.out is not None else usual)]
    for out in outs:
        if Path(out.name).suffix.lower() not in word.endings:
            command_line.fail(f"--out={out}: its ending must say what to write: {', '.join(word.endings)}")
        if not is_local(out):
            check_writable(out.parent, "--out")
        elif not out.parent.is_dir():
            command_line.fail(f"--out={out}: there is no folder {out.parent}")
    return outs


if __name__ == "__main__":
    ARGUMENTS = one_argument_each(sys.argv[1:])
    NAMES = [argument for argument in ARGUMENTS if not argument.startswith("-")]
    sys.argv[1:] = [argument for argument in ARGUMENTS if argument.startswith("-")]
    command_line.run(main)
