"""A folder with a `gcloud` and a `uv` that stand in for the real ones, and a clone whose training takes no time."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from tx_jax.launch.gcloud import Gcloud, Slice
from tx_jax.launch.launcher import Launcher
from tx_jax.launch.request import Request

UV = """#!/bin/bash
# Makes environments whose Python is that of the tests.
case "$1" in
venv)
    mkdir -p "${@: -1}/bin"
    cat >"${@: -1}/bin/python" <<'END'
#!/bin/bash
if [ -n "${FAULT:-}" ] && [ -d tests/faults ]; then exec PYTHON -m tests.faults.driver "$FAULT" "${@:3}"; fi
exec PYTHON "$@"
END
    chmod +x "${@: -1}/bin/python"
    ;;
pip) echo "$@" >>"$HOME/installed" ;;
esac
"""
# Trains to --steps, of --seconds each, and saves every 10th; FAULT is the step at which worker 0 stops itself.
TRAIN = """
import os, pathlib, signal, sys, time
flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
run, stopped = pathlib.Path(flags["workdir"]), []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
saved = [int(path.parent.name) for path in run.glob("checkpoints/*/commit_success.txt")]
print("worker", os.environ["WORKER"], "begins after", max(saved, default=0), os.environ.get("SECRET", ""))
for step in range(max(saved, default=0) + 1, int(flags["steps"]) + 1):
    time.sleep(float(flags.get("seconds", 0.002)))
    if step == int(flags.get("fail_at", 0)):
        sys.exit(int(flags["code"]))
    print("step", step)
    if os.environ["WORKER"] == "0" and os.environ["FAULT"] == str(step):
        os.kill(os.getpid(), signal.SIGSTOP)
    if (step % 10 == 0 or stopped) and os.environ["WORKER"] == "0":
        (run / f"checkpoints/{step}").mkdir(parents=True, exist_ok=True)
        (run / f"checkpoints/{step}/commit_success.txt").touch()
    if stopped:
        sys.exit(75)
if os.environ["WORKER"] == "0":
    (run / "DONE").touch()
"""


@dataclasses.dataclass
class StandIn:
    """The folder, and what the launcher said and showed."""

    root: Path
    clone: Path
    said: list[str] = dataclasses.field(default_factory=list)
    log: list[str] = dataclasses.field(default_factory=list)

    def plan(self, *fates: dict) -> None:
        (self.root / "plan.json").write_text(json.dumps(fates))

    def request(self, *arguments: str, accelerator: str = "v4-8", **more) -> Request:
        slice_ = Slice("bert", "us-central2-b")
        given = ("--workdir=gs://bucket/run", "--steps=40", *arguments)
        return Request(slice_, accelerator, given, "gs://bucket/run", **more)

    def launcher(self, request: Request, **options) -> Launcher:
        options = {"poll_seconds": 0.05, "say": self.said.append, **options}
        tell = lambda text: self.log.extend(text.decode().splitlines())  # noqa: E731
        return Launcher(request, Gcloud(), self.clone, tell=tell, **options)

    def run(self, *arguments: str, accelerator: str = "v4-8", **options) -> int:
        return self.launcher(self.request(*arguments, accelerator=accelerator), **options).run()

    @property
    def resources(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "resources").glob("*.json"))

    def calls(self, *words: str) -> list[list[str]]:
        """The commands that had these words, in order."""
        lines = (self.root / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if set(words) <= set(call)]

    def file(self, address: str) -> Path:
        return Path(address.replace("gs://", f"{self.root}/buckets/"))


def make(folder: Path) -> StandIn:
    """Makes the folder and the clone; PATH and STANDIN are left to the caller."""
    root, clone = folder / "standin", folder / "clone"
    for path in (root / "bin", root / "resources", root / "buckets/bucket", clone / "experiments"):
        path.mkdir(parents=True)
    script = Path(__file__).with_name("gcloud.py")
    for name, text in (
        ("gcloud", f'#!/bin/sh\nexec {sys.executable} -S -E {script} "$@"\n'),
        ("uv", UV.replace("PYTHON", sys.executable)),
    ):
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    (clone / "experiments/train.py").write_text(TRAIN)
    commit(clone)
    return StandIn(root, clone)


def commit(clone: Path) -> None:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "a commit"]):
        subprocess.run(["git", *arguments], cwd=clone, check=True)


def environment(standin: StandIn) -> dict[str, str]:
    return {"STANDIN": str(standin.root), "PATH": f"{standin.root}/bin:{os.environ['PATH']}"}
