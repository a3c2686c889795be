"""Looks for what is wrong with this machine, and with an experiment on it, without training anything.

    python -m experiments.doctor
    python -m experiments.doctor --config=configs/bert_base.py --config.data.store=data/mine --workdir=runs/mine

Packages and their versions, devices and their peak, memory, disk, whether a step over all devices computes what NumPy
does; with --config, whether its files can be read, whether the data fits the model, whether the mesh fits the devices,
which attention would run, whether parameters and optimizer state fit into memory; with --workdir, whether a run may be
written there. Each finding comes with its remedy. On several machines, run it on each.

Exit codes: 0 all is well, 1 warnings, 2 something that keeps a training from running.
"""

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/NAME.py, or configs/NAME.py:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory that the experiment would have.")

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def main(argv: list[str]) -> int:
    if WORKDIR.value and not CONFIG.value:
        command_line.fail("--workdir is that of an experiment: give --config too")
    from rich.text import Text

    from experiments.display import make_console
    from tx_jax.doctor import finding, machine
    from tx_jax.doctor.experiment import Examination
    from tx_jax.files import local_path

    checks = machine.checks()
    if CONFIG.value:
        workdir = local_path(WORKDIR.value, "--workdir") if WORKDIR.value else None
        checks += Examination(CONFIG.value.to_dict(), command_line.given(), workdir).checks()
    console, found = make_console(), []
    for each in finding.examine(checks):
        found.append(each)
        line = Text.assemble((f"{each.level:8}", STYLES[each.level]), (f"{each.subject}: ", "bold"), each.says)
        console.print(line, soft_wrap=True)
        if each.remedy:
            console.print(f"        → {each.remedy}", soft_wrap=True, markup=False, highlight=False)
    return finding.exit_code(found)


if __name__ == "__main__":
    command_line.run(main)
