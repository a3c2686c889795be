"""The front door: what `import tx_jax` offers in Python.

    model = tx_jax.load("runs/bert")                    # or a converted model, a Hugging Face folder or name
    model.fill_mask("Madrid is the [MASK] of Spain.")   # for each mask, the most probable tokens
    model.encode(["one text", "another"])               # float32 [2, D]
    tx_jax.train(bert_base.get_config("smoke"), workdir="runs/mine")

The commands of `experiments` call the same functions of the library. A `Model` is also what those functions take, such
as `decoding.generate` for many prompts or `interpret.capture.stream` for many texts.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from tx_jax import tree
from tx_jax.config import LabeledDataConfig
from tx_jax.decoding.options import SAMPLING
from tx_jax.errors import InputError, InputWarning
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.runs import trained
from tx_jax.runs.open_model import OpenModel, open_model
from tx_jax.runs.trained import Trained
from tx_jax.training.run import Run

# What needs which head; a model without it says what it can do instead.
_NEEDS = {
    "fill_mask": "masked_lm",
    "classify": "sequence_classification",
    "tag": "token_classification",
    "answer": "question_answering",
    "generate": "causal_lm",
    "translate": "causal_lm",
}
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Model(Trained):
    """A model on the available devices, with its tokenizer.

    Attributes:
      opened: the same model in host memory, as it was opened.

    The others are those of `runs.trained.Trained`: `model` (the shape), `params`, `tokenizer`, `labels`, `mesh`, ...
    """

    opened: OpenModel = dataclasses.field(kw_only=True)

    @property
    def can(self) -> tuple[str, ...]:
        """The names of the methods that this model's heads allow."""
        translates = self.model.architecture == "encoder_decoder"
        heads = [
            name
            for name, head in _NEEDS.items()
            if head in self.model.heads and (head != "causal_lm" or (name == "translate") == translates)
        ]
        return (*heads, *([] if translates else ["encode"]), "capture")

    def apply(self, params: Any, tokens_BT: jax.Array, **inputs: Any) -> Output:
        """The model as a pure function of its parameters, without dropout, for a step of one's own.

        Args:
          params: a tree like `self.params`.
          tokens_BT: int32 ids; of an encoder-decoder the source's.
          inputs: further arguments of the model, such as `segments_BT`, and `valid_BT` (bool, False for padding; by
            default nothing is); of an encoder-decoder `valid_BS`, `target_tokens_BT` and `target_valid_BT`.
        """
        if self.model.architecture != "encoder_decoder":
            inputs = {"valid_BT": jnp.ones(jnp.shape(tokens_BT), bool)} | inputs
        return registry.build(self.model).apply({"params": params}, tokens_BT, deterministic=True, **inputs)

    def encode(
        self,
        texts: Sequence[str],
        *,
        layers: Sequence[int] = (-1,),
        pooling: str = "mean",
        normalize: bool = True,
        batch_size: int = _BATCH,
    ) -> np.ndarray:
        """A vector of each text: float32 [N, D].

        Args:
          layers: the mean of these: 0 = the embeddings, 1 = the first layer's output, -1 = the last.
          pooling: "mean" of the tokens, the "first" (BERT's [CLS]) or the "last".
          normalize: whether vectors get length 1, so that their products are cosines.

        Raises:
          InputError: a text is empty, None or longer than the model; there is no such layer.
        """
        from tx_jax.interpret import texts as rows
        from tx_jax.interpret import vectors

        self._require("encode")
        made = rows.rows_of_texts(self, _texts(texts, "encode"))
        return vectors.embed(self, made, pooling=pooling, layers=layers, normalize=normalize, batch_size=batch_size)

    def capture(self, texts: Sequence[str], names: Sequence[str], *, targets: Sequence[str] = ()) -> list[dict]:
        """Activations of each text by name, without padding: float32, of the shapes in `interpret.sites`.

        Args:
          names: such as "encoder/layer_3/attention/probabilities" [H, T, S] or "encoder/layer_3/output" [T, D].
          targets: of an encoder-decoder, what its decoder reads of each text.

        Raises:
          InputError: there is no such name, or a text does not fit.
        """
        from tx_jax.interpret import capture
        from tx_jax.interpret.texts import rows_of_texts

        given = _texts(targets, "capture") if targets else ()
        return capture.collect(self, rows_of_texts(self, _texts(texts, "capture"), given), names)

    def fill_mask(self, text: str, *, top: int = 5) -> list[list[tuple[str, float]]]:
        """For each mask in the text, the `top` most probable tokens with their probabilities.

        Raises:
          InputError: the model fills no masks, or there is no mask in the text.
        """
        from tx_jax.evaluation.fill_mask import fill_mask

        self._require("fill_mask")
        return fill_mask(self, _text(text, "fill_mask"), top=top)

    def classify(self, texts: Sequence[str | Sequence[str]]) -> list[dict[str, Any]]:
        """For each text, or pair of texts: "prediction" and "probability_LABEL" of each label; of a regression
        "prediction", a number.

        Raises:
          InputError: the model does not classify, or a text is None.
        """
        given = [[one] if isinstance(one, str) else one for one in _list(texts, "classify")]
        for number, parts in enumerate(given, start=1):
            if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
                raise InputError(f"classify, text {number}: {parts!r:.60} is neither a text nor a pair of texts")
        return self._predict("classify", given)

    def tag(self, words: Sequence[str]) -> list[tuple[str, str, float]]:
        """The label of each word of a sentence, and its probability: (word, label, probability).

        Raises:
          InputError: the model does not tag, or a word is None or empty.
        """
        words = _texts(words, "tag")
        (found,) = self._predict("tag", [[words]])
        return list(zip(words, found["prediction"], found["probability"], strict=True))

    def answer(self, question: str, context: str) -> dict[str, Any]:
        """The answer to a question in a text: "prediction", "" if there is none, its "start" (characters),
        "probability", and the "n_best".

        Raises:
          InputError: the model answers no questions, or a text is None.
        """
        (found,) = self._predict("answer", [[_text(question, "answer"), _text(context, "answer")]])
        return found

    def generate(self, prompt: str, **options: Any) -> str:
        """What a decoder continues a prompt with, without the prompt.

        Args:
          options: as of `decoding.Options`: max_new_tokens, temperature, top_k, top_p, num_beams, stop, seed, ... For
            several prompts or sequences, and for their probabilities, see `decoding.generate`.

        Raises:
          InputError: the model does not generate, the prompt does not fit, or an option that would do nothing.
        """
        return self._decoded("generate", prompt, options)

    def translate(self, text: str, **options: Any) -> str:
        """The translation of a text by an encoder-decoder: by default a search with 4 beams and GNMT's length penalty
        of 0.6 (Vaswani et al. 2017, section 6.1); num_beams=1 is greedy. `options` and errors: see `generate`."""
        defaults: dict[str, Any] = {"num_beams": 4, "length_penalty": 0.6, "length_normalization": "gnmt"}
        if options.get("num_beams", 4) == 1 or options.keys() & {"temperature", *SAMPLING}:
            defaults = {} if options.keys() & {"temperature", *SAMPLING} else {"temperature": 0.0}
        return self._decoded("translate", text, defaults | options)

    def save(self, path: str | Path) -> None:
        """Writes the model, with its present parameters, as a converted model, which `load` opens.

        Raises:
          InputError: the folder exists.
        """
        from tx_jax.convert import model_dir
        from tx_jax.files import path_of

        model_dir.save(self._on_host(), path_of(path, "path"))

    def to_hf(self, path: str | Path, *, dtype: str | None = None) -> str:
        """Writes the model, with its present parameters, as a folder for transformers. Returns the class it is for.

        Raises:
          InputError: the folder exists, or transformers has no class for the model.
        """
        from tx_jax.convert import to_hf
        from tx_jax.files import path_of

        data = self.config and self.config.data
        return to_hf.write(
            self._on_host(),
            path_of(path, "path"),
            dtype=dtype,
            length=getattr(data, "sequence_length", None),
            separators=getattr(data, "pair_separators", None),
        )

    def _on_host(self) -> OpenModel:
        params = {path: np.asarray(x) for path, x in tree.flatten(jax.device_get(self.params)).items()}
        return dataclasses.replace(self.opened, params=params)

    def _require(self, name: str) -> None:
        if name not in self.can:
            raise InputError(
                f"{self.name} cannot {name}: its heads are {self.model.heads}; it can {', '.join(self.can)}"
            )

    def _predict(self, name: str, given: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        from tx_jax.evaluation import labeled_task
        from tx_jax.evaluation.predict import predict

        self._require(name)
        columns = {} if self.config is not None or name != "classify" else _columns(given)
        task = labeled_task.to_predict(self, columns)
        names = task.data.text
        for number, parts in enumerate(given, start=1):
            if len(parts) != len(names):
                raise InputError(
                    f"{name}, text {number}: the model reads {' and '.join(names)}, not {len(parts)} texts"
                )
        records = [dict(zip(names, parts, strict=True)) for parts in given]
        return predict(task, self.params, self.mesh, records, batch_size=_BATCH)

    def _decoded(self, name: str, text: str, options: Mapping[str, Any]) -> str:
        from tx_jax import decoding

        self._require(name)
        fields = {field.name for field in dataclasses.fields(decoding.Options)}
        if unknown := options.keys() - fields:
            raise InputError(
                f"{name}: there is no option {sorted(unknown)[0]!r}; there are {', '.join(sorted(fields))}"
            )
        if options.get("num_return_sequences", 1) != 1:
            raise InputError(f"{name} gives one sequence; tx_jax.decoding.generate gives several")
        (found,) = decoding.generate(self, [_text(text, name)], decoding.Options(**options))
        return found.text


def load(name: str | Path, *, step: int | None = None, heads: Sequence[str] | None = None, average: int = 1) -> Model:
    """Opens a model: a run directory, a converted model, a Hugging Face folder, or a name on the Hugging Face Hub.

    Args:
      step: for a run: the checkpoint's step; None: a fine-tuned run's best, the newest of other runs.
      heads: for a Hugging Face model: the heads to read; None: those that it has.
      average: for a run: the mean of the parameters of so many checkpoints.

    Raises:
      InputError: there is no model there (it says what was looked for), or it is damaged.
    """
    opened = open_model(name, step=step, heads=heads, average=average)
    placed = trained.place(opened)
    values = {field.name: getattr(placed, field.name) for field in dataclasses.fields(Trained)}
    return Model(**values, opened=opened)


def train(config: Any, workdir: str | Path, *, progress: bool = True) -> dict[str, dict[str, float]]:
    """Trains as `experiments.train` does: a new run, or on from the newest checkpoint of the one in the folder.

    Args:
      config: what a configuration's `get_config` returns, changed as you like, or the same as nested plain values.
      workdir: the run directory.
      progress: whether to show a bar, and what was filled in or chosen. What deserves a second look is an InputWarning.

    Returns:
      Metrics by split: the last evaluation on "validation"; after fine-tuning those of the best checkpoint, on every
      split.

    Raises:
      InputError: what cannot be used, before any work.
      Stopped: Ctrl-C or SIGTERM; the state is saved, and the same call continues.
    """
    from tx_jax.evaluation import report
    from tx_jax.files import path_of
    from tx_jax.runs import plots, trackers
    from tx_jax.training import loop
    from tx_jax.training.open_run import open_run

    values = config if isinstance(config, dict) else config.to_dict()
    place = path_of(workdir, "workdir")
    opened = open_run(values, place)
    for line in opened.told if progress else ():
        print(line, flush=True)
    for line in opened.notices:
        warnings.warn(line, InputWarning, stacklevel=2)
    task = opened.task
    with (
        trackers.tracking(task.config.training.trackers) as tracking,
        _Progress(task.config.training.num_steps, shown=progress) as display,
    ):
        found = {"validation": loop.train(task.config, task, place, display, opened.start_from, tracking=tracking)}
        plots.draw_curves(place)
        batches = task.config.training.final_eval_batches
        if isinstance(task.config.data, LabeledDataConfig) and batches >= 0:
            reports = report.evaluate_run(place, task=task, batches=batches)
            report.write(place, reports)
            found = {split: dict(one.metrics) for split, one in reports.items()}
        tracking.summarize(place, {f"{split}/{name}": x for split, of in found.items() for name, x in of.items()})
    return found


class _Progress:
    """A bar of steps with the last loss and evaluation, as `training.run.Display`."""

    def __init__(self, steps: int, *, shown: bool):
        self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True, disable=not shown)
        self._values: dict[str, float] = {}

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def start(self, run: Run, start_step: int, changes: list[str]) -> None:
        del run, changes
        self._bar.update(start_step)

    def pace(self, start: int, step: int, seconds: float) -> None: ...

    def train(self, step: int, values: dict[str, float]) -> None:
        self._note({"loss": values["loss"]})
        self._bar.update(step - self._bar.n)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Of several losses that of the language model: a line that is broken in two cannot be written over."""
        del step
        losses = [name for name in values if name.endswith("loss")]
        chosen = [name for name in losses if name.endswith("lm_loss")] or losses
        self._note({f"held-out {name}": values[name] for name in chosen})

    def _note(self, values: dict[str, float]) -> None:
        """What is shown from the next step on: of the bar one line a time, since notebooks made into pages keep all."""
        self._values |= values
        self._bar.set_postfix(self._values, refresh=False)


def _columns(given: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A model without a run reads one text, or pairs where pairs are given."""
    return {"text": ("text", "text_pair")} if given and len(given[0]) == 2 else {}


def _text(text: Any, name: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{name} takes a text, not {text!r:.60} ({type(text).__name__})")
    return text


def _list(texts: Any, name: str) -> Sequence[Any]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(f"{name} takes a list, not {texts!r:.60} ({type(texts).__name__}): give [...]")
    if not texts:
        raise InputError(f"{name}: the list is empty")
    return texts


def _texts(texts: Any, name: str) -> list[str]:
    given = _list(texts, name)
    for number, text in enumerate(given, start=1):
        if not isinstance(text, str):
            raise InputError(f"{name}, text {number}: {text!r:.60} is no text ({type(text).__name__})")
    return list(given)
