import pytest

from experiments import progress
from tests.experiments import test_command_lines
from tx_jax.data.corpus.prepare import Progress
from tx_jax.data.corpus.token_store import TokenStore


def prepare(*arguments):
    return test_command_lines.run("prepare", *arguments)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Document {i} begins here. It also ends." for i in range(40)))
    return path


def test_it_makes_a_store_and_says_what_is_next(tmp_path, text_file):
    (tmp_path / "b.jsonl").write_text('{"body": "One more document."}\n')
    store = tmp_path / "store"
    flags = (
        f"--source={text_file},{tmp_path}/b.jsonl",
        f"--store={store}",
        "--field=body",
        "--vocab_size=60",
        "--workers=1",
    )
    run = test_command_lines.executed("prepare", *flags)
    assert run.returncode == 0, run.stderr
    assert "vocabulary: 60 tokens" in run.stdout
    assert f"1 file, 40 documents: {text_file} was taken for plain text, because nothing in it says" in run.stdout
    reason = "JSON lines, because its first line is a JSON object"
    assert f"1 file, 1 document: {tmp_path}/b.jsonl was taken for {reason}" in run.stdout
    assert "documents_empty 0, invalid_utf8 0, nul 0, sentences_cut 0" in run.stdout
    assert "documents of one sentence: 1 (" in run.stdout
    assert f"--config.data.store={store} --config.model.vocab_size=60 --workdir=runs/store" in run.stdout
    assert TokenStore.open(store).meta["documents_read"] == 41
    again = prepare(*flags)
    assert again.returncode == 0
    assert "already complete" in again.stdout


def test_verify_names_the_file_that_was_edited(tmp_path, text_file):
    store = tmp_path / "store"
    flags = (f"--source={text_file}", f"--store={store}", "--vocab_size=60", "--workers=1", "--verify")
    assert prepare(*flags).returncode == 0
    shard = store / "train" / "tokens-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    run = prepare(*flags)
    assert run.returncode == 2
    assert "has damaged files" in run.stderr
    assert "train/tokens-00000.npy" in run.stderr
    assert prepare(*flags[:-1]).returncode == 0


@pytest.mark.parametrize("kind", ["gpt2_bpe", "unigram", "t5_unigram"])
def test_it_trains_other_kinds_of_tokenizer(tmp_path, text_file, kind):
    store = tmp_path / "store"
    flags = (f"--source={text_file}", f"--store={store}", f"--tokenizer_kind={kind}", "--workers=2")
    run = prepare(*flags, "--vocab_size=270")
    assert run.returncode == 0, run.stderr
    opened = TokenStore.open(store)
    assert opened.meta["splits"]["train"]["unknown_tokens"] == 0
    other = prepare(f"--source={text_file}", f"--store={store}", "--vocab_size=270", "--workers=2")
    assert other.returncode == 2
    assert f"tokenizer '{kind} trained on the source', now 'trained on the source'" in other.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sorce=x"], "Did you mean: process_id, source"),
        (["--source=nothing*.txt"], "no file matches 'nothing*.txt'"),
        (["--source=embedded", "--sentences=wraped"], "wrapped"),
        (["--source=embedded", "--vocab_size=many"], "vocab_size"),
        (["--source=embedded", "--format=xlsx"], "format"),
        (["--source=embedded", "--delimiter=tab"], "delimiter is for files, and embedded is not one: drop it"),
        (["--source=embedded", "--tokenizer_kind=gpt2_bpe", "--lowercase"], "lowercase has no meaning for gpt2_bpe"),
        (
            ["--source=embedded", "--tokenizer_kind=unigram", "--strip_accents"],
            "strip_accents has no meaning for unigram",
        ),
        (["--source=embedded", "--tokenizer=t", "--tokenizer_kind=unigram"], "--tokenizer_kind is for training a tok"),
        (["--source=embedded", "--tokenizer=t", "--vocab_size=9"], "--vocab_size is for training a tokenizer, but"),
    ],
)
def test_mistakes_are_a_line_and_exit_code_2(tmp_path, flags, message):
    run = prepare(f"--store={tmp_path}/store", *flags)
    assert run.returncode == 2
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "store").exists()


def test_help_teaches():
    run = prepare("--help")
    assert run.returncode == 0
    assert "python -m experiments.prepare --source=embedded" in run.stdout
    assert "--encoding_errors" in run.stdout


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_goes_to_a_bar_or_to_plain_lines(terminal, monkeypatch, capsys):
    now = iter(range(100, 200, 3))  # seconds; a line is due every five
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal)
    with progress.PrepareProgress() as shown:
        for step in range(6):
            shown(Progress("encode", step, step * 1_000_000, step * 900, fraction=step / 5))
    out, err = capsys.readouterr()
    if terminal:
        assert out == ""
        assert "encoding" in err
        assert "5 documents, 5.0 M characters, 4,500 tokens, 300 tokens/s" in err
    else:
        assert err == ""
        assert out.splitlines() == [
            "encoding 40%: 2 documents, 2.0 M characters, 1,800 tokens, 300 tokens/s",
            "encoding 80%: 4 documents, 4.0 M characters, 3,600 tokens, 300 tokens/s",
        ]
