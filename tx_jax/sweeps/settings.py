"""Settings of a sweep: which values each trial gives to which keys, and the names of their run directories."""

import dataclasses
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tx_jax.errors import InputError
from tx_jax.sweeps.axes import Axis, Range

Setting = Mapping[str, str]  # key of the configuration -> value as on a command line

# Keys that repeat a setting instead of making another one: results are means and deviations over their values.
REPEATING = ("seed", "data.fold")
LONGEST_NAME = 120
DRAWS = 1000  # in search of a setting that has not been drawn yet


class Hyper:
    """What a configuration file's `get_sweep(hyper)` builds its settings from, as in big_vision and scenic. Everything
    is a list of settings, dicts of a key and its value; a key may begin with `config.`, which means nothing.

        def get_sweep(hyper):
            return hyper.product([
                hyper.sweep("seed", range(3)),
                hyper.chainit([
                    hyper.product([hyper.fixed("optimizer.schedule", "linear"), hyper.sweep("lora.rank", [4, 8])]),
                    hyper.sweep("optimizer.learning_rate", [1e-4, 3e-4]),
                ]),
            ])
    """

    def sweep(self, key: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        """A setting for each value."""
        return [{key: value} for value in values]

    def fixed(self, key: str, value: Any, length: int = 1) -> list[dict[str, Any]]:
        """The same setting, so many times."""
        return [{key: value}] * length

    def product(self, parts: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Each combination of a setting of every part."""
        return [self._merged(combined) for combined in itertools.product(*parts)]

    def zipit(self, parts: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """The first settings of all parts together, the second ones, and so on. A part of one setting goes with all.

        Raises:
          InputError: the parts have different lengths.
        """
        parts = [list(part) for part in parts]
        longest = max(map(len, parts), default=0)
        parts = [part * longest if len(part) == 1 else part for part in parts]
        if len({len(part) for part in parts}) > 1:
            raise InputError(f"get_sweep: zipit takes parts of one length, not {', '.join(str(len(p)) for p in parts)}")
        return [self._merged(combined) for combined in zip(*parts, strict=True)]

    def chainit(self, parts: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """The settings of all parts, one part after the other."""
        return [dict(setting) for part in parts for setting in part]

    def _merged(self, settings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for setting in settings:
            if twice := merged.keys() & setting.keys():
                raise InputError(f"get_sweep: {', '.join(sorted(twice))} has two values in one setting")
            merged |= setting
        return merged


def of_file(found: Any, where: str) -> list[dict[str, str]]:
    """What `get_sweep` returned, with values as texts.

    Raises:
      InputError: it is no list of settings.
    """
    listed = isinstance(found, list | tuple) and all(isinstance(setting, Mapping) for setting in found)
    if not listed or not found or not all(found):
        raise InputError(f"{where}: get_sweep must return a list of dicts, such as hyper.sweep('seed', [0, 1])")
    return [{str(key).removeprefix("config."): str(value) for key, value in one.items()} for one in found]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
      setting: what it tries.
      repeat: its values of the keys in `REPEATING`.
      name: of its run directory.
    """

    setting: Setting
    repeat: Setting
    name: str

    @property
    def overrides(self) -> dict[str, str]:
        return {**self.setting, **self.repeat}


def grid(axes: Sequence[Axis], listed: Sequence[Setting] = ({},)) -> list[dict[str, str]]:
    """Every combination of the axes' values with each of the listed settings; later axes vary faster."""
    values = itertools.product(*(axis.values for axis in axes))
    combined = [dict(zip((axis.key for axis in axes), chosen, strict=True)) for chosen in values]
    return [{**setting, **chosen} for setting in listed for chosen in combined]


def random_settings(axes: Sequence[Axis | Range], seed: int) -> Iterator[dict[str, str]]:
    """Settings drawn at random, each a function of the seed and its number, without repetition; they end where no new
    one is found."""
    known = set()
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        for _ in range(DRAWS):
            setting = {axis.key: axis.draw(rng) for axis in axes}
            if (key := tuple(setting.values())) not in known:
                known.add(key)
                yield setting
                break
        else:
            return


def trials(settings: Iterable[Setting], repeats: Sequence[Setting] = ({},)) -> list[Trial]:
    """The runs of settings: each of the repeats of the first one, then of the next. The keys in `REPEATING` that a
    setting has itself belong to the repeat.

    Raises:
      InputError: two of the runs would be the same.
    """
    whole = [{**setting, **repeat} for setting in settings for repeat in repeats]
    if twice := next((one for one, count in Counter(map(_identity, whole)).items() if count > 1), None):
        raise InputError(f"the sweep has one setting twice: {', '.join(f'{key}={value}' for key, value in twice)}")
    return [trial(overrides, name) for overrides, name in zip(whole, names_of(whole), strict=True)]


def trial(overrides: Setting, name: str) -> Trial:
    setting = {key: value for key, value in overrides.items() if key not in REPEATING}
    return Trial(setting, {key: value for key, value in overrides.items() if key in REPEATING}, name)


def names_of(settings: Sequence[Setting]) -> list[str]:
    """Names of directories that tell the settings: learning_rate_3e-5__seed_0. They depend on nothing else, and differ
    if the settings do."""
    names = [_name(setting, digest=False) for setting in settings]
    twice = {name for name, count in Counter(names).items() if count > 1 or len(name) > LONGEST_NAME}
    return [
        _name(setting, digest=True) if name in twice else name for setting, name in zip(settings, names, strict=True)
    ]


def keys_of(settings: Iterable[Setting]) -> list[str]:
    """All keys, in the order in which they come first."""
    return list(dict.fromkeys(key for setting in settings for key in setting))


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each key, or all of it where others end the same."""
    keys = list(dict.fromkeys(keys))
    last = [key.rpartition(".")[2] for key in keys]
    return {key: key if last.count(short) > 1 else short for key, short in zip(keys, last, strict=True)}


def _name(setting: Setting, digest: bool) -> str:
    short = short_keys(setting)
    parts = [f"{short[key]}_{re.sub(r'[^A-Za-z0-9.+-]+', '_', value).strip('_.')}" for key, value in setting.items()]
    name = "__".join(parts)
    if not digest:
        return name
    return f"{name[:LONGEST_NAME]}__{hashlib.sha256(repr(_identity(setting)).encode()).hexdigest()[:8]}"


def _identity(setting: Setting) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(setting.items()))
