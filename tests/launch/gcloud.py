"""A stand-in for gcloud: keeps queued resources on disk, and runs each worker of a TPU VM as processes of this machine,
in a home of its own. It takes the flags that the launcher gives and refuses all others. Time passes when a resource is
described.

STANDIN is its folder. In it, vms/NAME/N is the home of worker N, and buckets/B is gs://B, also in the commands that
workers run. plan.json says what happens to the first, the second, ... resource that is created (later ones: nothing):

{"fail": "no more capacity"}        it is FAILED; {"refuse": "..."}: the command that creates it is refused
{"break": [1, 3]}                   the first and the third command by ssh fail
{"fault": F, "then": "preempt"}     its trainings have F as FAULT, which stops them by SIGSTOP at some point; then it is
                                    SUSPENDED and its workers are killed, or
                    "vanish"        its VM is gone and it is still ACTIVE
                    "lose"          worker 1 no longer answers
                    "reboot"        all processes are killed, and the VM is there again
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["STANDIN"])
FLAGS = {
    *("zone", "project", "format", "node-id", "accelerator-type", "type", "topology", "runtime-version", "spot"),
    *("reserved", "guaranteed", "labels", "valid-until-duration", "service-account", "internal-ips", "internal-ip"),
    *("quiet", "force", "worker", "command", "filter"),
}
CHIPS_PER_VM = 4


def main(argv):
    words, flags = [], {}
    for argument in argv:
        if argument.startswith("--"):
            name, _, value = argument[2:].partition("=")
            if name not in FLAGS:
                fail(f"unrecognized arguments: {argument}", 2)
            flags[name] = value or True
        else:
            words.append(argument)
    with (ROOT / "calls.jsonl").open("a") as file:
        file.write(json.dumps(argv) + "\n")
    if (ROOT / "offline").exists():
        fail("gcloud crashed (ConnectionError): cannot reach the server")
    if words[:2] == ["auth", "list"]:
        return print("me@example.com" if not (ROOT / "logged_out").exists() else "")
    if words[0] == "storage":
        return storage(words[1], words[2:])
    if words[2:4] == ["accelerator-types", "list"]:
        return print("v4-8\nv4-16\nv5litepod-16")
    service, word, *rest = words[2:]
    if (service, word) == ("queued-resources", "describe") and read(rest[0]):
        happen(rest[0])
    return {"queued-resources": queued, "tpu-vm": vm}[service](word, rest, flags)


def fail(text, code=1):
    print(f"ERROR: (gcloud) {text}", file=sys.stderr)
    sys.exit(code)


def read(name):
    path = ROOT / "resources" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(name, resource):
    path = ROOT / "resources" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(resource))


def home(name, worker):
    return ROOT / "vms" / name / str(worker)


def processes(name, worker):
    """The pids of a worker's training: of the process that worker.sh started, and of those below it."""
    started = home(name, worker) / "tx_jax-launch" / name / "started"
    found = [int(started.read_text().split()[0])] if started.exists() else []
    for pid in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [pid for pid in found if is_at_home(pid, home(name, worker))]


def is_at_home(pid, folder):
    """Whether a process has this home, so that it is not a later one with the same number."""
    try:
        return f"HOME={folder}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def kill(name, workers):
    for worker in workers:
        pids = processes(name, worker)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(state_of(pid) != "Z" for pid in pids):
            time.sleep(0.01)


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def happen(name):
    """What the plan has for this resource now."""
    resource = read(name)
    if resource["state"] == "WAITING_FOR_RESOURCES":
        resource["state"] = "FAILED" if "fail" in resource["plan"] else "PROVISIONING"
    elif resource["state"] == "PROVISIONING":
        resource["state"] = "ACTIVE"
        for worker in range(resource["workers"]):
            home(name, worker).mkdir(parents=True)
    elif resource["state"] == "SUSPENDING":
        resource["state"] = "SUSPENDED"
    elif "then" in resource["plan"] and any(state_of(pid) == "T" for pid in processes(name, 0)):
        resource["plan"].pop("fault")
        befall(name, resource, resource["plan"].pop("then"))
    write(name, resource)


def befall(name, resource, kind):
    everyone = range(resource["workers"])
    if kind in ("preempt", "vanish"):
        kill(name, everyone)
        shutil.rmtree(ROOT / "vms" / name)
        resource["gone"] = True
        resource["state"] = "ACTIVE" if kind == "vanish" else "SUSPENDING"
    elif kind == "lose":
        kill(name, [1])
        resource["lost"] = 1
    elif kind == "reboot":
        kill(name, everyone)


def queued(word, rest, flags):
    if word == "create":
        return create(rest[0], flags)
    if word == "list":
        return print(json.dumps([described(path.stem) for path in sorted((ROOT / "resources").glob("*.json"))]))
    if read(rest[0]) is None:
        fail(f"NOT_FOUND: Resource 'projects/p/locations/{flags['zone']}/queuedResources/{rest[0]}' was not found")
    if word == "describe":
        return print(json.dumps(described(rest[0])))
    assert (word, flags["force"], flags["quiet"]) == ("delete", True, True)
    kill(rest[0], range(read(rest[0])["workers"]))
    shutil.rmtree(ROOT / "vms" / rest[0], ignore_errors=True)
    (ROOT / "resources" / f"{rest[0]}.json").unlink()


def create(name, flags):
    plans = json.loads((ROOT / "plan.json").read_text()) if (ROOT / "plan.json").exists() else []
    plan = plans.pop(0) if plans else {}
    (ROOT / "plan.json").write_text(json.dumps(plans))
    if "refuse" in plan:
        fail(f"INVALID_ARGUMENT: {plan['refuse']}")
    if read(name) is not None:
        fail("ALREADY_EXISTS")
    accelerator = flags["accelerator-type"]
    workers = max(int(accelerator.partition("-")[2]) // 2 // CHIPS_PER_VM, 1)
    labels = dict(pair.split("=") for pair in flags["labels"].split(","))
    assert all(re.fullmatch(r"[a-z0-9_-]{1,63}", text) for pair in labels.items() for text in pair)
    write(name, {"state": "WAITING_FOR_RESOURCES", "workers": workers, "labels": labels, "plan": plan,
                 "accelerator": accelerator, "spot": flags.get("spot", False)})  # fmt: skip


def described(name):
    resource = read(name)
    state = {"state": resource["state"]}
    if resource["state"] == "FAILED":
        state["failedData"] = {"error": {"code": 8, "message": resource["plan"]["fail"]}}
    node = {"acceleratorType": resource["accelerator"], "labels": resource["labels"]}
    return {"name": f"projects/p/locations/z/queuedResources/{name}", "state": state,
            "tpu": {"nodeSpec": [{"nodeId": name, "node": node}]}}  # fmt: skip


def vm(word, rest, flags):
    name = rest[-1].partition(":")[0] if word == "scp" else rest[0]
    resource = read(name)
    if resource is None or resource["state"] != "ACTIVE" or resource.get("gone"):
        fail(f"NOT_FOUND: Resource 'projects/p/locations/z/nodes/{name}' was not found")
    everyone = range(resource["workers"])
    if word == "describe":
        endpoints = [{"ipAddress": f"10.0.0.{worker}"} for worker in everyone]
        return print(json.dumps({"state": "READY", "networkEndpoints": endpoints}))
    workers = everyone if flags["worker"] == "all" else [int(flags["worker"])]
    resource["commands"] = resource.get("commands", 0) + 1
    write(name, resource)
    if resource["commands"] in resource["plan"].get("break", ()):
        fail("[/usr/bin/ssh] exited with return code [255].", 255)
    codes = []
    for worker in workers:
        if resource.get("lost") == worker:
            codes.append(255)
        elif word == "scp":
            folder = home(name, worker) / rest[-1].partition(":")[2]
            for file in map(Path, rest[:-1]):
                shutil.copy(file, folder)
                if file.suffix == ".sh":
                    (folder / file.name).write_text(file.read_text().replace("gs://", f"{ROOT}/buckets/"))
        else:
            environment = {"HOME": str(home(name, worker)), "PATH": f"{ROOT}/bin:/usr/bin:/bin", "WORKER": str(worker)}
            environment |= {key: x for key, x in os.environ.items() if key.startswith(("JAX_", "XLA_"))}
            environment["FAULT"] = resource["plan"].get("fault", "")
            command = ["bash", "-c", flags["command"]]
            done = subprocess.run(command, cwd=home(name, worker), env=environment, check=False)
            codes.append(done.returncode)
    sys.exit(max(codes, default=0))


def here(address):
    return Path(address.replace("gs://", f"{ROOT}/buckets/")) if address.startswith("gs://") else Path(address)


def storage(word, rest):
    if word == "ls":
        pattern = str(here(rest[0]).relative_to(ROOT))
        found = sorted(here(rest[0]).iterdir()) if rest[0].endswith("/") and here(rest[0]).is_dir() else sorted(
            ROOT.glob(pattern)) if "*" in pattern else []  # fmt: skip
        if not found:
            fail("One or more URLs matched no objects.")
        return print("\n".join(str(path).replace(f"{ROOT}/buckets/", "gs://") for path in found))
    if word == "cat":
        if not here(rest[0]).exists():
            fail("The following URLs matched no objects or files")
        return print(here(rest[0]).read_text())
    assert word == "cp"
    *sources, target = rest
    if target.startswith("gs://") and not (ROOT / "buckets" / target.split("/")[2]).is_dir():
        fail(f"gs://{target.split('/')[2]} not found: 404.")
    if target.endswith("/"):
        here(target).mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(here(source), here(target))


if __name__ == "__main__":
    main(sys.argv[1:])
