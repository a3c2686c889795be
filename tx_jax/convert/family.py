"""Defines a family of published models: how its config.json and tensors map to ours."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from tx_jax.config import TransformerConfig
from tx_jax.config.heads import labeled
from tx_jax.convert.rules import Rule, expand
from tx_jax.data.labeled.label_names import default_names
from tx_jax.errors import InputError

# Their activation names -> ours. If several names mean the same activation, we write the first.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
}


# Fields that do not change what a trained model computes, so config.json does not have to be able to express them.
OF_TRAINING = {
    "dtype",
    "remat",
    "dropout",
    "attention_dropout",
    "classifier_dropout",
    "init_stddev",
    "scale_residual_init",
    "initial_attention",
}
# Fields that matter only for a model with a pooler.
OF_POOLER = {"pooler", "classifier_transform", "classifier_pooling"}


class Field(NamedTuple):
    """A field of `TransformerConfig` and its key in config.json.

    Attributes:
      default: the value transformers uses if config.json lacks the key; a value must also have its type.
      values: their value -> ours, if the two differ.
    """

    ours: str
    hf: str
    default: Any
    values: Mapping[Any, Any] | None = None

    def read(self, config: Mapping[str, Any]) -> Any:
        """Returns our value. Raises InputError for a value of the wrong type, or one with no equivalent here."""
        value = config.get(self.hf, self.default)
        if self.values is not None:
            if not isinstance(value, str | int | float) or value not in self.values:
                known = ", ".join(map(repr, self.values))
                raise InputError(f"config.json: {self.hf}={value!r} is not supported: only {known}")
            return self.values[value]
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(self.default):
            raise InputError(f"config.json: {self.hf}={value!r} must be of type {type(self.default).__name__}")
        return value

    def write(self, value: Any, config: Mapping[str, Any]) -> Any:
        """Returns their value: the one in `config` if it means the same, else the first one that does."""
        if self.values is None:
            return value
        if self.values.get(config.get(self.hf)) == value:
            return config[self.hf]
        return next(theirs for theirs, ours in self.values.items() if ours == value)


def value_of(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """Returns the value of a config.json key that is not a `Field`; null counts as absent.

    Raises:
      InputError: the value does not have the default's type.
    """
    return default if config.get(key) is None else Field("", key, default).read(config)


def _num_labels(config: Mapping[str, Any]) -> int:
    """Counts labels as transformers does: the number of label names, else `num_labels`, else two."""
    names = config.get("id2label")
    number = len(names) if isinstance(names, dict | list) else config.get("num_labels", 2)
    if type(number) is not int:
        raise InputError(f"config.json: num_labels={number!r} must be of type int")
    return number


def labels_of_heads(
    hf_config: Mapping[str, Any], config: TransformerConfig, untrained: Collection[str] = ()
) -> tuple[str, ...]:
    """Returns config.json's names for the outputs of the model's classifier or tagger, in order; () if the model has no
    trained one, or one that predicts a number.

    If config.json does not name every output, the names are those that transformers shows: LABEL_0, LABEL_1, ...
    """
    if not set(labeled(config.heads)).difference(untrained):
        return ()
    if "sequence_classification" in config.heads and (
        config.num_labels == 1 or problem_type_of(hf_config) == "regression"
    ):
        return ()
    names, _ = _label_names(hf_config)
    return names if len(names) == config.num_labels else default_names(config.num_labels)


def label_problem(hf_config: Mapping[str, Any]) -> str | None:
    """Returns why the label names in config.json cannot be used; None if they can, or if there are none."""
    return _label_names(hf_config)[1]


def _label_names(hf_config: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """Returns the names in `id2label` (a dict or a list) by ascending id, and why there are none, if known."""
    table = hf_config.get("id2label")
    if not isinstance(table, dict | list):
        return (), None
    by_id = {str(key): str(name) for key, name in (table.items() if isinstance(table, dict) else enumerate(table))}
    expected = [str(number) for number in range(len(by_id))]
    if set(by_id) != set(expected):
        listed = ", ".join(list(by_id)[:5])
        return (), f"config.json: id2label has the ids {listed}, not 0 to {len(by_id) - 1}: the names are not used"
    names = tuple(by_id[number] for number in expected)
    if doubled := [name for name in names if names.count(name) > 1]:
        return (), f"config.json: id2label has the name {doubled[0]!r} twice: the names are not used"
    return names, None


def problem_type_of(hf_config: Mapping[str, Any]) -> str | None:
    """Returns the problem type in config.json; transformers treats a single output as regression."""
    given = hf_config.get("problem_type")
    return given if isinstance(given, str) else None


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True)
class Family:
    """One family, such as BERT, RoBERTa and its relatives, or GPT-2.

    Tensor names are those of models with heads; base models omit the `prefix`.

    Attributes:
      model_types: each supported `model_type` -> the start of its class names.
      classes: heads -> the end of the name of the class that has them; the first of several is preferred.
      prefix: the prefix of the body's tensor names.
      fields: the fields that config.json and our configuration share.
      constants: our fields that are the same in all models of the family; fields not listed keep their default.
      required: keys of config.json, each with its only supported value; an absent key counts as that value.
      rules: the conversion table, with rows for all heads.
      read_more: handles what `fields` cannot express: (config.json, heads) -> our fields.
      write_more: the inverse of `read_more`: our configuration -> keys of config.json.
      renames: regular expression -> replacement, for tensor names that older versions wrote.
      ignored: regular expressions for tensors that hold no parameters.
      ignored_more: the same, for tensors that a model with this configuration does not use.
      zeros: tensors that hold zeros if a checkpoint lacks them.
      tied: tensor -> the tensor it must equal because both are the same parameter, if our model has no separate
        parameter for it.
    """

    model_types: Mapping[str, str]
    classes: Mapping[tuple[str, ...], str]
    prefix: str
    fields: tuple[Field, ...]
    constants: Mapping[str, Any]
    required: Mapping[str, Any]
    rules: Callable[[TransformerConfig], list[Rule]]
    read_more: Callable[[Mapping[str, Any], tuple[str, ...]], dict[str, Any]] = _nothing
    write_more: Callable[[TransformerConfig], dict[str, Any]] = _nothing
    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    ignored_more: Callable[[TransformerConfig], tuple[str, ...]] = lambda _: ()
    zeros: tuple[str, ...] = ()
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def heads(self) -> tuple[str, ...]:
        """All heads that models of this family can have, in the order of `classes`."""
        return tuple(dict.fromkeys(head for heads in self.classes for head in heads))

    def table(self, config: TransformerConfig) -> list[Rule]:
        """Returns the conversion table with a row for each layer of the deeper stack, of which a model needs some."""
        return expand(self.rules(config), max(config.num_layers, config.num_decoder_layers))

    @property
    def hf_names(self) -> dict[str, str]:
        """Our fields -> their keys in config.json, for messages."""
        return {field.ours: field.hf for field in self.fields}

    def read_config(self, config: Mapping[str, Any], *, heads: tuple[str, ...], **changes: Any) -> TransformerConfig:
        """Builds our configuration from the values of config.json; null counts as absent.

        Raises:
          InputError: a value is not supported, or sizes contradict each other.
        """
        config = {key: value for key, value in config.items() if value is not None}
        for key, value in self.required.items():
            if config.get(key, value) != value:
                raise InputError(f"config.json: {key}={config[key]!r} is not supported: only {value!r}")
        values = {"dtype": "float32", "remat": "none"} | dict(self.constants)
        values |= {field.ours: field.read(config) for field in self.fields} | {"num_labels": _num_labels(config)}
        values |= self.read_more(config, heads)
        try:
            return TransformerConfig(**values | {"heads": heads} | changes)
        except InputError as error:
            keys = self.hf_names
            named = re.sub(r"model\.(\w+)", lambda match: keys.get(match[1], match[0]), str(error))
            raise InputError(f"config.json: {named}") from None

    def write_config(self, config: TransformerConfig, model_type: str, base: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of config.json; keeps equivalent values from `base`, an earlier config.json."""
        values = {field.hf: field.write(getattr(config, field.ours), base) for field in self.fields}
        values |= {"model_type": model_type, "architectures": [self.class_name(config.heads, model_type)]}
        # transformers also sizes its question-answering head by the number of labels.
        num_labels = 2 if "question_answering" in config.heads else config.num_labels
        if num_labels != _num_labels(base):
            names = {str(i): f"LABEL_{i}" for i in range(num_labels)}
            values |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
        return {**self.required, **base, **values, **self.write_more(config)}

    def class_name(self, heads: tuple[str, ...], model_type: str) -> str:
        """Returns the transformers class with these heads, or, if there is none, the one with most of them."""
        return self.model_types[model_type] + self.classes[self.written_heads(heads)]

    def written_heads(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the heads of the class that these heads are written as."""
        wanted = set(heads)
        exact = [group for group in self.classes if set(group) == wanted]
        return exact[0] if exact else max(self.classes, key=lambda group: (len(set(group) & wanted), -len(group)))

    def heads_of_class(self, name: str) -> tuple[str, ...] | None:
        """Returns the heads of a transformers class, regardless of its stem; None for an unknown class."""
        endings = {ending: heads for heads, ending in reversed(self.classes.items())}
        known = [ending for ending in endings if name.endswith(ending)]
        return endings[max(known, key=len)] if known else None

    def is_base(self, name: str) -> bool:
        """Whether this class is a model without heads, whose tensor names lack the prefix."""
        return name.removesuffix("Model") in self.model_types.values()

    def obstacles(self, config: TransformerConfig) -> list[str]:
        """Lists what a model of this family cannot represent, as `name=value`; empty if it can be written as one."""
        found = [f"head {head!r}" for head in config.heads if head not in self.heads]
        limited = {field.ours: field.values.values() for field in self.fields if field.values is not None}
        unsaid = [name for name, values in limited.items() if getattr(config, name) not in values]
        found += [f"{name}={getattr(config, name)!r}" for name in unsaid]
        config = dataclasses.replace(config, **{name: next(iter(limited[name])) for name in unsaid})
        try:
            config = dataclasses.replace(config, heads=tuple(head for head in config.heads if head in self.heads))
            hf_config = self.write_config(config, next(iter(self.model_types)), {})
            back, unknown = self.read_config(hf_config, heads=config.heads), set(OF_TRAINING)
        except InputError as error:
            # It is unknown what else the family could express, so compare with a default model of the family.
            found.append(str(error))
            back = self.read_config({}, heads=config.heads)
            unknown = OF_TRAINING | {field.ours for field in self.fields} | {"num_labels", "max_length"}
        if not labeled(config.heads):
            unknown.add("num_labels")
        if not config.needs_pooler:
            own = {"pooler"} if config.classifier_transform and "masked_lm" in config.heads else set()
            unknown |= OF_POOLER - own
        names = [f.name for f in dataclasses.fields(config) if f.name not in unknown]
        differing = [name for name in names if getattr(config, name) != getattr(back, name)]
        return found + [f"{name}={getattr(config, name)!r}" for name in differing]
