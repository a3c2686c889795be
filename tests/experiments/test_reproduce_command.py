"""`python -m experiments.reproduce`: a recipe reaches what it states, or not; what it needs; what it prints."""

import pytest

from experiments.small_forms import FORMS
from tests import programs

RECIPE = """
from configs import bert_base

def get_config(variant=""):
    c = bert_base.get_config("smoke")
    c.model.vocab_size, c.model.num_layers, c.data.store = 200, 1, {store!r}
    c.training.update(num_steps=4, log_every=4, eval_every=4, checkpoint_every=4, keep_best=0)
    return c

def get_expected(variant=""):
    row = dict(metric="masked_lm_loss", split="validation", source="here", hardware="a test", low=1.0)
    return [] if variant == "nothing" else [row | dict(high={high}), row | dict(metric="loss", step=3)][:{rows}]
"""


def reproduce(*arguments):
    return programs.run("tests.experiments.steps_in_forks", "reproduce", *arguments, asks=True)


def write(folder, store, high=9.0, rows=1):
    (folder / "mine.py").write_text(RECIPE.format(store=str(store.path), high=high, rows=rows))
    return folder / "mine.py"


def test_a_recipe_that_reaches_what_it_states(tiny_store, tmp_path):
    recipe = write(tmp_path, tiny_store)
    arguments = [recipe, f"--workdir={tmp_path / 'all'}"]
    done = reproduce(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("What ") == 2  # at the end of the run, and of the command
    assert "reached" in done.stdout
    assert (tmp_path / "all/seed_0/expected.json").exists()
    again = reproduce(*arguments, "--measure")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("exists: skipping experiments.train") == 1
    assert "{'metric': 'masked_lm_loss', 'split': 'validation', 'value': 5." in again.stdout
    write(tmp_path, tiny_store, high=2.0, rows=2)
    missed = reproduce(*arguments)
    assert missed.returncode == 1
    assert missed.stderr == "2 outcomes are not reached.\n"
    assert "above" in missed.stdout
    assert "not evaluated" in missed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needed: a recipe, such as"),
        (["gpt_mini_"], "Did you mean 'gpt_mini'?"),
        (["configs/nothing.py"], "there is no file 'configs/nothing.py'"),
        (["configs/distilbert.py"], "states no outcome with a range, so nothing can be checked: --measure"),
        (["shakespeare", "--measure"], "needed: --source=tinyshakespeare's input.txt, https://"),
        (["quickstart", "--measure", "--source=x"], "--source=x does nothing with"),
        (["quickstart", "--measure", "--seeds=0,0"], "--seeds=0,0: give one or more different numbers"),
        (["cola_minilm", "--measure"], "--config.data.train: there is no data/cola/in_domain_train.tsv: get the raw"),
        (["quickstart", "--measure", "--config.optimizer.lr=1"], "Did you mean 'config.optimizer.learning_rate'?"),
    ],
)
def test_bad_input(arguments, said):
    done = reproduce(*arguments)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_lists_the_recipes():
    shown = reproduce("--help").stdout
    for name, form in FORMS.items():
        assert f"  {name} " in shown
        assert form.says in shown


@pytest.mark.parametrize("name", ["gpt_mini", "shakespeare", "cola_minilm", "further_mini"])
def test_a_form_has_its_commands(name, tmp_path):
    """The data that is not there is stood in for."""
    (tmp_path / "x").touch()
    given = [f"--config.{key}={tmp_path / 'x'}" for key in FORMS[name].data if key != "data.more_splits"]
    given += ["--config.data.more_splits=()"] if "data.more_splits" in FORMS[name].data else []
    given += [f"--source={tmp_path / 'x'}"] if FORMS[name].source else []
    shown = reproduce(name, "--measure", "--dry_run", "--seeds=3,0", f"--workdir={tmp_path}", *given)
    assert shown.returncode == 0, shown.stderr
    *_, first, last = shown.stdout.splitlines()
    assert first.endswith(f"--config.seed=3 --workdir={tmp_path}/seed_3")
    assert last.startswith(f"$ python -m experiments.{FORMS[name].command} --config={FORMS[name].config} ")
    assert last.endswith(f"--config.seed=0 --workdir={tmp_path}/seed_0")
    assert ("experiments.prepare" in shown.stdout) == bool(FORMS[name].prepare)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if not (form.source or form.data)])
def test_a_small_form_reaches_what_is_stated(name, tmp_path):
    """Minutes each; where no range is stated yet, that it runs to its end."""
    done = reproduce(name, "--measure", "--seeds=0,1", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "'split': 'validation'" in done.stdout
    assert "'seeds': 2}" in done.stdout
