"""What a sweep is to do: its trials, checked before any of them starts."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments import command_line
from tx_jax import shipped
from tx_jax.errors import InputError, did_you_mean
from tx_jax.files import local_path
from tx_jax.sweeps import axes, settings
from tx_jax.sweeps.axes import Axis, Range
from tx_jax.sweeps.settings import Setting, Trial


class Plan:
    """What the command line and the configuration ask for. Raises InputError for what cannot be done.

    Args:
      config: what --config and --config.KEY give.
      given: the arguments that say so.
      swept: the arguments --sweep.KEY=VALUES.
      count: for a search: number of settings.
      seed: of the search.

    Attributes:
      given: the arguments for every trial: --config=FILE and --config.KEY=VALUE.
      file: that of --config, with its variant.
      axes: what makes settings.
      repeats: of --sweep.seed and --folds: the runs of each setting.
      listed: the settings of the configuration's get_sweep; [{}] without one.
      trials: all trials; for tpe none, as later ones depend on earlier ones.
    """

    def __init__(
        self,
        *,
        config: ConfigDict,
        given: Sequence[str],
        swept: Sequence[str],
        workdir: str,
        search: str = "grid",
        count: int = 0,
        seed: int = 0,
        folds: int = 0,
        metric: str = "",
        prune: bool = True,
    ):
        self.given, self.workdir, self.folds = list(given), local_path(workdir, "--workdir"), folds
        self.search, self.count, self.seed, self.metric, self.prune = search, count, seed, metric, prune
        self.file = next(argument for argument in given if argument.startswith("--config=")).partition("=")[2]
        self._base = config
        found = axes.parse(swept)
        self.listed = _get_sweep(self.file)
        self._check_folds()
        self._check_keys([axis.key for axis in found], settings.keys_of(self.listed))
        for axis in found:
            self._check_values(axis)
        repeating = [axis for axis in found if axis.key in settings.REPEATING]
        self.axes = [axis for axis in found if axis not in repeating]
        if folds:
            repeating.append(Axis("data.fold", tuple(map(str, range(folds)))))
        self.repeats = settings.grid(_listing(repeating, "it repeats settings, and needs values"))
        has_own = self.listed != [{}]
        if not (self.axes or len(self.repeats) > 1 or has_own):
            raise InputError("nothing to sweep: give --sweep.KEY=VALUE,VALUE, or a configuration with get_sweep")
        if search != "grid" and (has_own or not self.axes):
            why = "but the configuration has get_sweep" if has_own else "and there is none"
            raise InputError(f"--search={search} chooses from --sweep.KEY, {why}: give --search=grid")
        self.trials = settings.trials(self._settings(), self.repeats)
        self._check_trials()

    def resolve(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The configuration's plain values with arguments such as --config.KEY=VALUE.

        Raises:
          InputError: a key cannot have its value.
        """
        return command_line.resolve(self._base, arguments)

    def _check_folds(self) -> None:
        if not self.folds:
            return
        data = self.resolve(self.given)["data"]
        if "train" not in data:
            raise InputError("--folds is for labeled data: a token store has its own held-out documents")
        if data["validation"]:
            raise InputError(
                f"--folds={self.folds} divides the training data, but data.validation={data['validation']!r}: give "
                "--config.data.validation="
            )
        self.given.append(f"--config.data.folds={self.folds}")

    def _check_keys(self, swept: Sequence[str], listed: Sequence[str]) -> None:
        known = command_line.keys_of(self._base)
        given = command_line.keys_set(self.given)
        for key in swept:
            if key in listed:
                raise InputError(f"{axes.PREFIX}{key}: get_sweep in {self.file} sets this key too: leave one out")
        for key in (*swept, *listed):
            if key not in known:
                near = did_you_mean(key, known)
                raise InputError(f"{axes.PREFIX}{key}: {self.file} has no such key.{near}")
            if key in given:
                raise InputError(f"--config.{key} gives a value to a key that is swept: leave one of them out")
            if self.folds and key in ("data.fold", "data.folds"):
                raise InputError(f"{axes.PREFIX}{key}: --folds={self.folds} sets it: leave one of them out")

    def _check_values(self, axis: Axis | Range) -> None:
        """Raises InputError for values that the key cannot have, or one that is given twice."""
        ends = (axis.low, axis.high) if isinstance(axis, Range) else ()
        values = [axis.text(end) for end in ends] if isinstance(axis, Range) else axis.values
        found: dict[str, str] = {}
        for text in values:
            value = repr(_leaf(self.resolve([*self.given, f"--config.{axis.key}={text}"]), axis.key))
            if value in found and isinstance(axis, Axis):
                both = f"{found[value]} and {text} are" if found[value] != text else f"{text} is"
                raise InputError(f"{axes.PREFIX}{axis.key}: {both} the same value given twice: leave one out")
            found[value] = text

    def _settings(self) -> list[Setting]:
        if self.search == "tpe":
            return []
        if self.search == "grid":
            return settings.grid(
                _listing(self.axes, "a grid needs values; for a range give --search=random"), self.listed
            )
        drawn = settings.random_settings(self.axes, self.seed)
        found = [setting for setting, _ in zip(drawn, range(self.count), strict=False)]
        if len(found) < self.count:
            raise InputError(f"--trials={self.count}: the axes make only {len(found)} settings: give --search=grid")
        return found

    def _check_trials(self) -> None:
        """Raises InputError if every trial would be refused. A few that would are left to fail."""
        from tx_jax.config.further import experiment_values
        from tx_jax.config.starting import check_start
        from tx_jax.runs import trackers

        trackers.check_installed(self._base.training.get("trackers", ()))
        first = None
        for one in self.trials:
            keys = [*command_line.keys_set(self.given), *one.overrides]
            try:
                check_start(experiment_values(self.resolve(self.arguments(one))), keys)
                return
            except InputError as error:
                first = first or InputError(f"{one.name}: {error}")
        if first:
            raise first

    def arguments(self, one: Trial) -> list[str]:
        """The arguments of experiments.train for a trial, without --workdir."""
        return [*self.given, *(f"--config.{key}={value}" for key, value in one.overrides.items())]

    def definition(self) -> dict[str, Any]:
        """What makes two sweeps the same. A search may be continued with more trials."""
        found = {
            "config": self.given,
            "search": self.search,
            "axes": {axis.key: axis.values if isinstance(axis, Axis) else str(axis) for axis in self.axes},
            "repeats": self.repeats,
            "get_sweep": self.listed if self.listed != [{}] else [],
        }
        if self.search != "grid":
            found["search_seed"] = self.seed
        if self.search == "tpe":
            found |= {"metric": self.metric, "prune": self.prune}
        return found

    def reproducing(self, setting: Setting, repeats: Sequence[Setting]) -> str:
        """The command that trains a setting again, with all its repeats."""
        arguments = [*self.given, *(f"--config.{key}={value}" for key, value in setting.items())]
        values: dict[str, list[str]] = {}
        for repeat in repeats:
            for key, value in repeat.items():
                if value not in values.setdefault(key, []):
                    values[key].append(value)
        seeds = values.get("seed", [])
        again = f"--workdir={self.workdir}-best"
        if values.keys() <= {"seed"} and len(seeds) < 2:
            return _command("train", *arguments, *(f"--config.seed={seed}" for seed in seeds), again)
        if values.keys() == {"seed"} and "train" in self._base.data:
            return _command("train", *arguments, f"--seeds={','.join(seeds)}", again)
        arguments = [argument for argument in arguments if not argument.startswith("--config.data.folds=")]
        folds = [f"--folds={self.folds}"] if self.folds else []
        swept = [f"{axes.PREFIX}{key}={','.join(v)}" for key, v in values.items() if not (folds and key == "data.fold")]
        return _command("sweep", *arguments, *swept, *folds, again)

    def show(self) -> None:
        """Prints what every trial changes, and its command."""
        from tx_jax.config import differences

        base = self.resolve(self.given)
        if self.search == "tpe":
            print(f"{self.count} settings, each chosen by what those before reached, from:")
            for axis in self.axes:
                print(f"  {axis.key}: {axis if isinstance(axis, Range) else ', '.join(axis.values)}")
            for repeat in self.repeats if len(self.repeats) > 1 else ():
                print(f"  each with {', '.join(f'{key}={value}' for key, value in repeat.items())}")
            return
        for one in self.trials:
            print(one.name)
            for line in differences(base, self.resolve(self.arguments(one))):
                print(f"  {line}")
            print(f"  {_command('train', *self.arguments(one), f'--workdir={self.workdir / one.name}')}\n")
        print(f"{len(self.trials)} trials")


def _command(name: str, *arguments: str) -> str:
    return shlex.join(["python", "-m", f"experiments.{name}", *arguments])


def _listing(found: Sequence[Axis | Range], needs: str) -> list[Axis]:
    """The axes. Raises InputError, with what is needed, if one is a range."""
    for axis in found:
        if isinstance(axis, Range):
            raise InputError(f"{axes.PREFIX}{axis.key}={axis}: {needs}")
    return [axis for axis in found if isinstance(axis, Axis)]


def _leaf(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _get_sweep(config: str) -> list[dict[str, str]]:
    """The settings of the configuration file's get_sweep; [{}] if it has none."""
    module = shipped.module(config, "--config")
    path = module.__file__
    make: Callable | None = getattr(module, "get_sweep", None)
    if make is None:
        return [{}]
    try:
        return settings.of_file(make(settings.Hyper()), str(path))
    except InputError:
        raise
    except Exception as error:  # whatever a user's own Python file raises
        raise InputError(f"{path}: get_sweep fails: {type(error).__name__}: {error}") from error
