"""The files of docs/clusters: their syntax, and what they do with what a training tells by its exit code."""

import ast
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/clusters"


def flags_of_train():
    """Names of the flags of experiments.train."""
    tree = ast.parse((ROOT / "experiments/train.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return {call.args[0].value for call in calls if call.func.attr.startswith("DEFINE")}


def check_flags(command):
    for argument in command:
        name = argument.removeprefix("--").partition("=")[0]
        assert name.startswith("config.") or name in flags_of_train(), argument


def stand_in(folder, name, script):
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_slurm_script_trains_and_goes_back_into_the_queue_if_it_was_stopped(tmp_path, code):
    """By bash, with a stand-in for srun and scontrol."""
    stand_in(tmp_path, "srun", f'printf "%s\\n" "$@"; exit {code}')
    stand_in(tmp_path, "scontrol", 'echo "scontrol $*"')
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    given = ["--config=configs/bert_base.py", "--config.model.heads=('masked_lm', 'pooled')", "--workdir=a b"]
    done = subprocess.run(
        ["bash", str(FOLDER / "slurm.sbatch"), *given],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    expected = ["python", "-m", "experiments.train", *given, *(["scontrol requeue 7"] if code == 75 else [])]
    assert done.stdout.splitlines() == expected


def test_the_slurm_script_asks_for_one_process_a_gpu_and_time_to_save():
    lines = (FOLDER / "slurm.sbatch").read_text().splitlines()
    asked = dict(re.match(r"#SBATCH --([\w-]+)(?:=(\S+))?", line).groups() for line in lines if line[:8] == "#SBATCH ")
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]
    assert "gpus-per-task" not in asked
    signal, _, seconds = asked["signal"].partition("@")
    assert signal == "TERM"
    assert int(seconds) >= 60
    assert "requeue" in asked
    body = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert max(directives) < min(body)  # SLURM reads none after the first command


def test_the_kubernetes_job_is_whole():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    assert (service["kind"], job["kind"], job["apiVersion"]) == ("Service", "Job", "batch/v1")
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    (container,) = pod["containers"]
    program, module, *arguments = shlex.split(container["args"][0].removeprefix("exec "))[1:]
    assert (container["command"], program, module) == (["/bin/bash", "-c"], "-m", "experiments.train")
    check_flags(arguments)
    flags = dict(argument[2:].split("=", 1) for argument in arguments)
    assert int(flags["num_processes"]) == spec["completions"] == spec["parallelism"]
    assert (spec["completionMode"], flags["process_id"]) == ("Indexed", "$JOB_COMPLETION_INDEX")
    host, port = flags["coordinator"].split(":")
    assert host == f"{name}-0.{pod['subdomain']}"
    assert int(port) == container["ports"][0]["containerPort"]
    assert (ROOT / flags["config"]).is_file()
    # What a pod failure policy needs, and what it does with the exit codes of a training.
    assert pod["restartPolicy"] == "Never"
    rules = spec["podFailurePolicy"]["rules"]
    codes = {code: rule["action"] for rule in rules if "onExitCodes" in rule for code in rule["onExitCodes"]["values"]}
    assert codes == {2: "FailJob", 75: "Ignore"}
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {container["name"]}
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_the_image_has_what_the_job_runs():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]}
    for path in copied:
        assert (ROOT / path).exists()
    assert {"tx_jax", "experiments", "configs", "setup.cfg", "pyproject.toml", "README.md"} <= copied
    extras = re.search(r'"\.\[(.+)\]"', "\n".join(lines))[1].split(",")
    assert all(f"\n{extra} =" in (ROOT / "setup.cfg").read_text() for extra in extras)


def test_the_readme_names_every_file_and_flags_that_exist():
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        assert path.name == "README.md" or path.name in text
    command = next(line for line in text.split("`") if line.startswith("sbatch "))
    check_flags(shlex.split(command)[2:])
