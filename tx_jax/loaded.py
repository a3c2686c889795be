"""A model as `tx_jax.load` opens it, and what it can do, each by the library's own functions.

Shapes: N texts, D model, B batch, T length, H heads, S length of keys.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tx_jax import arguments, tree
from tx_jax.arguments import Column, Texts
from tx_jax.config import TransformerConfig
from tx_jax.decoding.options import SAMPLING
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.runs.open_model import OpenModel
from tx_jax.runs.trained import Trained
from tx_jax.tasks.classification import Classification
from tx_jax.tasks.question_answering import QuestionAnswering
from tx_jax.tasks.registry import TASKS
from tx_jax.tasks.tagging import Tagging

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


@functools.lru_cache(maxsize=8)
def _compiled(config: TransformerConfig) -> Callable[[Any, jax.Array, dict[str, Any]], Output]:
    """`Model.apply`, compiled once a shape. Traced by a user's own `jax.jit` or `jax.grad`, it is a part of theirs."""
    module: Any = registry.build(config)  # of `apply`, Flax says that it may return anything
    return jax.jit(
        lambda params, tokens_BT, inputs: module.apply({"params": params}, tokens_BT, deterministic=True, **inputs)
    )


@dataclasses.dataclass(frozen=True)
class Model(Trained):
    """A model on the available devices, with its tokenizer.

    Attributes:
      opened: the same model in host memory, as it was opened.

    The others are those of `runs.trained.Trained`: `model` (the shape), `params`, `tokenizer`, `labels`, `mesh`, ...

    Examples:
      >>> bert.model.num_layers, bert.tokenizer.mask_id is not None
      (2, True)
    """

    opened: OpenModel = dataclasses.field(kw_only=True)

    @property
    def can(self) -> tuple[str, ...]:
        """The names of the methods that this model's heads allow.

        Examples:
          >>> bert.can
          ('fill_mask', 'encode', 'capture')
        """
        translates = self.model.architecture == "encoder_decoder"
        heads = [
            name
            for name, head in _NEEDS.items()
            if (head in self.model.heads or self._learned(name))
            and (head != "causal_lm" or (name == "translate") == translates)
        ]
        return (*heads, "encode", "capture")

    def apply(self, params: Any, tokens_BT: jax.Array, **inputs: Any) -> Output:
        """The model as a pure function of its parameters, without dropout, for a step of one's own.

        Args:
          params: a tree like `self.params`.
          tokens_BT: int32 ids; of an encoder-decoder the source's.
          inputs: further arguments of the model, such as `segments_BT`, and `valid_BT` (bool, False for padding; by
            default nothing is); of an encoder-decoder `valid_BS`, `target_tokens_BT` and `target_valid_BT`.

        Raises:
          InputError: an array of another shape or type, rows longer than the model's table of positions, or an id that
            is not in the vocabulary. Under `jax.jit` or `jax.grad` the values of what is traced are not known, and not
            checked: an id outside of the vocabulary then counts as the nearest one.

        Examples:
          >>> tokens_BT = jnp.asarray([bert.tokenizer.encode("the cat sits")])
          >>> loss = lambda params: -jax.nn.log_softmax(bert.apply(params, tokens_BT).logits["masked_lm"])[0, 1, 7]
          >>> jax.jit(jax.grad(loss))(bert.params)["encoder"]["layer_0"]["mlp"]["wi"]["kernel"].shape
          (16, 24)
        """
        return _compiled(self.model)(params, *arguments.of_apply(self.model, tokens_BT, inputs))

    def encode(
        self,
        texts: Texts,
        *,
        layers: Sequence[int] = (-1,),
        pooling: str = "mean",
        normalize: bool = True,
        batch_size: int = _BATCH,
    ) -> np.ndarray:
        """A vector of each text: float32 [N, D]; of an encoder-decoder its encoder's.

        Args:
          texts: a list, a numpy array, or a column of a table, such as a pandas Series.
          layers: the mean of these: 0 = the embeddings, 1 = the first layer's output, -1 = the last.
          pooling: "mean" of the tokens, the "first" (BERT's [CLS]) or the "last".
          normalize: whether vectors get length 1, so that their products are cosines.
          batch_size: texts of the model's full length that are computed together; of shorter ones more.

        Raises:
          InputError: a text is empty, None or longer than the model; there is no such layer.

        Examples:
          >>> bert.encode(["the cat sits", "the dog stands"]).shape
          (2, 16)
        """
        from tx_jax.interpret import texts as rows
        from tx_jax.interpret import vectors

        made = rows.rows_to_encode(self, arguments.texts(texts, "encode"))
        return vectors.embed(self, made, pooling=pooling, layers=layers, normalize=normalize, batch_size=batch_size)

    def capture(self, texts: Texts, names: Texts, *, targets: Texts = ()) -> list[dict[str, np.ndarray]]:
        """Activations of each text by name, without padding: float32, of the shapes in `interpret.sites`.

        Args:
          names: such as "encoder/layer_3/attention/probabilities" [H, T, S] or "encoder/layer_3/output" [T, D].
          targets: of an encoder-decoder, what its decoder reads of each text.

        Raises:
          InputError: there is no such name, or a text does not fit.

        Examples:
          >>> (found,) = bert.capture(["the cat sits"], ["encoder/layer_0/attention/probabilities"])
          >>> found["encoder/layer_0/attention/probabilities"].shape
          (2, 5, 5)
        """
        from tx_jax.interpret import capture
        from tx_jax.interpret.texts import rows_of_texts

        none = isinstance(targets, Sequence) and not targets
        given = () if none else arguments.texts(targets, "capture, targets")
        rows = rows_of_texts(self, arguments.texts(texts, "capture"), given)
        return capture.collect(self, rows, arguments.texts(names, "capture, names"))

    def fill_mask(self, text: str, *, top: int = 5) -> list[list[tuple[str, float]]]:
        """For each mask in the text, the `top` most probable tokens with their probabilities.

        Raises:
          InputError: the model fills no masks, or there is no mask in the text.

        Examples:
          >>> ((first, second),) = bert.fill_mask("the [MASK] sits", top=2)
          >>> first[1] >= second[1]
          True
        """
        from tx_jax.evaluation.fill_mask import fill_mask

        self._require("fill_mask")
        return fill_mask(self, arguments.text(text, "fill_mask"), top=top)

    def classify(self, texts: Sequence[str | Sequence[str]] | Column) -> list[dict[str, Any]]:
        """For each text, or pair of texts: "prediction" and "probability_LABEL" of each label; of a regression
        "prediction", a number.

        Raises:
          InputError: the model does not classify, or a text is None.

        Examples:
          >>> (one,) = classifier.classify(["the cat sits"])
          >>> list(one)
          ['prediction', 'probability_LABEL_0', 'probability_LABEL_1']
        """
        return self._predict("classify", arguments.texts_or_pairs(texts, "classify"))

    def tag(self, words: Texts) -> list[tuple[str, str, float]]:
        """The label of each word of a sentence, and its probability: (word, label, probability).

        Raises:
          InputError: the model does not tag, or a word is None or empty.

        Examples:
          >>> [word for word, label, probability in tagger.tag(["the", "cat"])]
          ['the', 'cat']
        """
        words = arguments.texts(words, "tag")
        (found,) = self._predict("tag", [[words]])
        return list(zip(words, found["prediction"], found["probability"], strict=True))

    def answer(self, question: str, context: str) -> dict[str, Any]:
        """The answer to a question in a text: "prediction", "" if there is none, its "start" (characters),
        "probability", and the "n_best".

        Raises:
          InputError: the model answers no questions, or a text is None.

        Examples:
          >>> found = answerer.answer("the cat?", "the cat sits by the river")
          >>> found["prediction"] in "the cat sits by the river"
          True
        """
        (found,) = self._predict("answer", [[arguments.text(question, "answer"), arguments.text(context, "answer")]])
        return found

    def generate(self, prompt: str, **options: Any) -> str:
        """What a decoder continues a prompt with, without the prompt.

        Args:
          options: as of `decoding.Options`: max_new_tokens, temperature, top_k, top_p, num_beams, stop, seed, ... For
            several prompts or sequences, and for their probabilities, see `decoding.generate`.

        Raises:
          InputError: the model does not generate, the prompt does not fit, or an option that would do nothing.

        Examples:
          >>> text = gpt.generate("the cat", max_new_tokens=3, temperature=0)
        """
        return self._decoded("generate", prompt, options)

    def translate(
        self, text: str, *, source_language: str | None = None, target_language: str | None = None, **options: Any
    ) -> str:
        """The translation of a text by an encoder-decoder: by default a search with 4 beams and GNMT's length penalty
        of 0.6 (Vaswani et al. 2017, section 6.1); num_beams=1 is greedy. `options` and errors: see `generate`.

        Args:
          source_language: of a model that knows several, such as "en_XX" of mBART.
          target_language: the same, such as "ro_RO" of mBART or "fra" of Marian.
          options: see `generate`.

        Examples:
          >>> text = translator.translate("the cat", max_new_tokens=3)
        """
        if source_language or target_language:
            from tx_jax.text.pair_forms import speaking

            self._require("translate")
            speaker = speaking(self.require_tokenizer(), source=source_language or "", target=target_language or "")
            return dataclasses.replace(self, tokenizer=speaker).translate(text, **options)
        defaults: dict[str, Any] = {"num_beams": 4, "length_penalty": 0.6, "length_normalization": "gnmt"}
        if options.get("num_beams", 4) == 1 or options.keys() & {"temperature", *SAMPLING}:
            defaults = {} if options.keys() & {"temperature", *SAMPLING} else {"temperature": 0.0}
        return self._decoded("translate", text, defaults | options)

    def save(self, path: str | Path) -> None:
        """Writes the model, with its present parameters, as a converted model, which `load` opens.

        Raises:
          InputError: the folder exists.

        Examples:
          >>> changed = dataclasses.replace(bert, params=jax.tree.map(lambda x: 0.5 * x, bert.params))
          >>> changed.save("models/halved")
          >>> tx_jax.load("models/halved").can == bert.can
          True
        """
        from tx_jax.convert import model_dir
        from tx_jax.files import path_of

        model_dir.save(self._on_host(), path_of(path, "path"))

    def to_hf(self, path: str | Path, *, dtype: str | None = None) -> str:
        """Writes the model, with its present parameters, as a folder for transformers. Returns the class it is for.

        Raises:
          InputError: the folder exists, or transformers has no class for the model.

        Examples:
          >>> bert.to_hf("export/bert")
          'BertForPreTraining'
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

    def _learned(self, name: str) -> bool:
        """Whether the run's task, perhaps one of a user's own on another head, predicts as this method's does."""
        bases = {"classify": Classification, "tag": Tagging, "answer": QuestionAnswering}
        kind = None if self.config is None else TASKS.get(self.config.task)
        return kind is not None and name in bases and issubclass(kind, bases[name])

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
        (found,) = decoding.generate(self, [arguments.text(text, name)], decoding.Options(**options))
        return found.text


def _columns(given: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A model without a run reads one text, or pairs where pairs are given."""
    return {"text": ("text", "text_pair")} if given and len(given[0]) == 2 else {}
