"""Writes a page about runs: curves, final metrics, configurations, times, labels, environment.

    python -m experiments.report runs/* --out=report.html

Names are run directories, or folders that hold some, such as a sweep. report.html opens without a network, on a phone
too; report.md beside it has the same tables. The exit code is 2 where there is no run, or a file of one is damaged.
"""

import sys

from absl import flags

from experiments import command_line

OUT = flags.DEFINE_string("out", "report.html", "The page; the Markdown goes beside it.")
TITLE = flags.DEFINE_string("title", None, "The title of the page; default: the number of runs and where they are.")
WORDS = command_line.Words("run directories, such as python -m experiments.report runs/* --out=report.html")


def main(argv: list[str]) -> int:
    from tx_jax.files import local_path, write_atomically
    from tx_jax.reports import facts, markdown, page, sections

    names = argv[1:]
    out = local_path(OUT.value, "--out")
    if out.suffix.lower() not in (".html", ".htm"):
        command_line.fail(f"--out={OUT.value}: the page's name must end in .html")
    if not out.parent.is_dir():
        command_line.fail(f"--out={OUT.value}: there is no folder {out.parent}")
    runs = facts.find(names)
    for run in runs:
        for note in run.notes:
            print(f"warning: {run.path}: {note}", file=sys.stderr)
    title = TITLE.value or (runs[0].name if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)[:80]}")
    content, shown = sections.report(runs), [run.name for run in runs]
    for path, text in ((out, page.text), (out.with_suffix(".md"), markdown.text)):
        write_atomically(path, text(title, content, shown))
    print(f"{len(runs)} runs. Written: {out} and {out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    command_line.run(main, WORDS)
