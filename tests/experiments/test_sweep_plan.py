"""What a sweep is to do, and what it refuses before any training."""

import shlex

import pytest

from experiments import command_line
from experiments.sweep_plan import Plan
from tx_jax.errors import InputError


def plan(*arguments, file="configs/classification.py", folder="runs/sweep", **options):
    given = [argument for argument in arguments if argument.startswith("--config.")]
    swept = [argument for argument in arguments if argument.startswith("--sweep.")]
    config = command_line.load_config(str(file), ())
    return Plan(config=config, given=[f"--config={file}", *given], swept=swept, workdir=folder, **options)


def test_the_trials_of_a_grid_and_the_command_of_the_best(capsys):
    found = plan("--config.data.train=a.csv", "--sweep.optimizer.learning_rate=1e-5,3e-5", "--sweep.seed=0,7")
    assert [one.name for one in found.trials] == [
        f"learning_rate_{rate}__seed_{seed}" for rate in ("1e-5", "3e-5") for seed in (0, 7)
    ]
    best = found.trials[2]
    command = found.reproducing(best.setting, [one.repeat for one in found.trials[2:]])
    assert shlex.split(command) == [
        *("python", "-m", "experiments.train", "--config=configs/classification.py", "--config.data.train=a.csv"),
        *("--config.optimizer.learning_rate=3e-5", "--seeds=0,7", "--workdir=runs/sweep-best"),
    ]
    found.show()
    shown = capsys.readouterr().out
    assert "optimizer.learning_rate: 2e-05 -> 3e-05\n  seed: 0 -> 7\n  python -m experiments.train" in shown
    assert "--workdir=runs/sweep/learning_rate_3e-5__seed_7\n" in shown
    assert "4 trials" in shown


def test_folds_repeat_each_setting():
    found = plan("--sweep.data.sequence_length=16,32", folds=3)
    assert len(found.trials) == 6
    assert found.trials[1].repeat == {"data.fold": "1"}
    values = found.resolve(found.arguments(found.trials[1]))["data"]
    assert (values["folds"], values["fold"], values["sequence_length"]) == (3, 1, 16)
    command = found.reproducing(found.trials[0].setting, [one.repeat for one in found.trials[:3]])
    assert command.endswith(" --config.data.sequence_length=16 --folds=3 --workdir=runs/sweep-best")
    assert "experiments.sweep" in command
    assert len(plan(folds=3).trials) == 3
    with pytest.raises(InputError, match=r"data.validation='dev.csv': give --config.data.validation="):
        plan("--config.data.validation=dev.csv", folds=3)
    with pytest.raises(InputError, match="--folds is for labeled data"):
        plan(file="configs/bert_base.py", folds=3)


def test_a_configuration_with_its_own_sweep(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs import classification\n"
        "def get_config(variant=''):\n    return classification.get_config(variant)\n"
        "def get_sweep(hyper):\n"
        "    seeds, texts = hyper.sweep('config.seed', range(2)), hyper.sweep('data.text', [('a',), ('a', 'b')])\n"
        "    return hyper.product([seeds, texts])\n"
    )
    found = plan(file=str(file))
    assert [one.repeat["seed"] for one in found.trials] == ["0", "0", "1", "1"]
    assert found.resolve(found.arguments(found.trials[3]))["data"]["text"] == ("a", "b")
    assert len(plan("--sweep.lora.rank=4,8", file=str(file)).trials) == 8
    with pytest.raises(InputError, match=r"--sweep.seed: get_sweep in .* sets this key too"):
        plan("--sweep.seed=3", file=str(file))
    with pytest.raises(InputError, match="but the configuration has get_sweep: give --search=grid"):
        plan("--sweep.lora.rank=4,8", file=str(file), search="random", count=2)
    file.write_text(file.read_text() + "\ndef get_sweep(hyper):\n    return hyper.sweeep('seed', [1])\n")
    with pytest.raises(InputError, match=r"mine.py: get_sweep fails: AttributeError: .*sweeep"):
        plan(file=str(file))


def test_random_settings_all_have_the_seeds():
    found = plan("--sweep.optimizer.learning_rate=log(1e-5,1e-3)", "--sweep.seed=0,1", search="random", count=3)
    assert len(found.trials) == 6
    assert len({one.setting["optimizer.learning_rate"] for one in found.trials}) == 3
    again = plan("--sweep.optimizer.learning_rate=log(1e-5,1e-3)", "--sweep.seed=0,1", search="random", count=5)
    assert again.trials[:6] == found.trials
    assert again.definition() == found.definition()  # more trials continue a search


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (["--sweep.optimizer.lr=1,2"], {}, r"no such key. Did you mean 'optimizer.learning_rate'\?"),
        (["--sweep.seed=0,1,0"], {}, "--sweep.seed: 0 is the same value given twice: leave one out"),
        (["--sweep.optimizer.learning_rate=1e-5,0.00001"], {}, "1e-5 and 0.00001 are the same value given twice"),
        (["--sweep.seed=0,a"], {}, "'a'"),
        (["--sweep.seed=0,1", "--config.seed=3"], {}, "--config.seed gives a value to a key that is swept"),
        ([], {}, "nothing to sweep: give --sweep.KEY=VALUE,VALUE"),
        (["--sweep.optimizer.eps=log(1e-9,1e-6)"], {}, "a grid needs values; for a range give --search=random"),
        (["--sweep.seed=int(1,9)"], {"search": "random", "count": 3}, "it repeats settings, and needs values"),
        (["--sweep.seed=0,1"], {"search": "random", "count": 3}, "chooses from --sweep.KEY, and there is none"),
        (["--sweep.lora.rank=4,8"], {"search": "random", "count": 3}, "make only 2 settings: give --search=grid"),
        (["--sweep.lora.alpha=4.0,8.0"], {}, "alpha_4.0: lora.alpha=4.0 does nothing because lora.rank=0"),
        (["--sweep.data.fold=0,1"], {"folds": 2}, "--folds=2 sets it"),
        (["--sweep.seed=0,1"], {"folder": "gs://bucket/sweep"}, "--workdir=gs://bucket/sweep: this cannot be on gs://"),
    ],
)  # fmt: skip
def test_bad_input(arguments, options, expected):
    with pytest.raises(InputError, match=expected):
        plan(*arguments, **options)


def test_a_few_settings_that_cannot_be_are_left_to_fail():
    found = plan("--sweep.lora.rank=0,8", "--sweep.lora.alpha=4.0,8.0")
    assert len(found.trials) == 4
