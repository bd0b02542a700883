"""The command line. Each command imports what it needs when it runs: ``--help`` imports no torch and no plugin."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

BUG = "This is a bug in probekit or in a plugin. Please report it with the lines below."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 a warning that was asked for, 2 what the user gave is
    wrong, 130 interrupted."""
    options = _parser().parse_args(arguments)
    from probekit.api.errors import ProbekitError

    try:
        return int(options.command(options) or 0)
    except ProbekitError as error:
        return _said(error)
    except KeyboardInterrupt:
        print("\nstopped: what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        print(BUG, file=sys.stderr)
        raise


def _said(error: Exception) -> int:
    issues = getattr(error, "issues", ())
    width = min(max((len(issue.where) for issue in issues), default=0), 40)
    for issue in issues:
        print(f"{issue.where:<{width}}  {issue.what}", file=sys.stderr)
    if not issues:
        print(error, file=sys.stderr)
    if len(issues) > 1:
        print(f"{len(issues)} errors, nothing was run", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="probekit",
        description="Which channels of a frozen vision model carry a concept, how few suffice, and how sure are we.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, help_text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(command=globals()[f"_{name}"])
        return command

    def spec(command: argparse.ArgumentParser) -> None:
        command.add_argument("spec", type=Path, help="the experiment file")
        command.add_argument(
            "--set",
            dest="overrides",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="changes a key of the spec: limit=20, data.with.root=photos (may be repeated)",
        )

    run = add("run", "Runs an experiment, or goes on with it where it stopped.")
    spec(run)
    run.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (runs/NAME)")
    run.add_argument("--replace", action="store_true", help="deletes a run of another spec in that folder")
    plan = add("plan", "Says what a run would do: jobs, units, rows, bytes and time. Extracts nothing.")
    spec(plan)
    check = add("check", "Looks at the labels before an hour is spent on them.")
    spec(check)
    check.add_argument("--preview", type=Path, metavar="DIR", help="draws masks, grids and labels over the photographs")
    check.add_argument("--alignment", action="store_true", help="probes with labels that are shifted by up to a cell")
    check.add_argument("--images", type=int, metavar="N", help="look at so many images (12; 24 for --alignment)")
    plugins = add("plugins", "Lists the plugins, or one plugin's parameters.")
    plugins.add_argument("name", nargs="?", help="a plugin, by name or distribution/name")
    plugins.add_argument("--model", metavar="MODEL", help="lists the layers of this model")
    show = add("show", "Shows a finished run.")
    show.add_argument("run", type=Path, help="the run's folder")
    show.add_argument("--json", action="store_true", help="as JSON")
    compare = add("compare", "Sets the channels of models against each other: of a finished run, or of several.")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    compare.add_argument(
        "--draws", type=int, default=999, metavar="N", help="re-pairings of groups, between runs (999)"
    )
    compare.add_argument("--out", type=Path, metavar="DIR", help="writes the tables of several runs there")
    report = add("report", "Writes one page of one or several finished runs: HTML that needs nothing else.")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    report.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (RUN/report.html; of several: report.html here)"
    )
    figures = add("figures", "Writes a run's figures, one a file, at the width of a paper's column.")
    figures.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    figures.add_argument("--format", choices=["pdf", "svg", "png"], required=True, help="of the files")
    figures.add_argument("--out", type=Path, metavar="DIR", help="their folder (figures)")
    figures.add_argument("--width", choices=["single", "double"], default="single", help="of a paper's column")
    add("schema", "Prints the JSON Schema of experiment files, for editors.")
    store = add("store", "Lists or prunes stored features.")
    store.add_argument("action", choices=["list", "prune"])
    store.add_argument(
        "path",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="SPEC_OR_FOLDER",
        help="a spec (its store), a store, or a folder that holds one (the working directory)",
    )
    store.add_argument("--unused-days", type=float, metavar="N", help="prune what no run has read for N days")
    store.add_argument("--all", action="store_true", help="prune everything")
    return parser


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from probekit.report.console import ConsoleProgress
    from probekit.report.table import print_places, print_run
    from probekit.runner.execute import run
    from probekit.runner.folder import REPORT

    console = Console(highlight=False)
    with ConsoleProgress(console) as progress:
        finished = run(options.spec, options.overrides, out=options.out, replace=options.replace, progress=progress)
    print_run(finished, console)  # before the page is made: what a long run found is shown, whatever becomes of it
    if not (finished.path / REPORT).is_file():
        from probekit.report.page import write_report

        write_report(finished)
    print_places(finished, console)
    return 0


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from probekit.report.console import ConsoleProgress
    from probekit.report.forecast import print_plan

    console = Console(highlight=False)
    with ConsoleProgress(console) as progress:
        print_plan(options.spec, options.overrides, console, progress)
    return 0


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from probekit.report.check import check
    from probekit.report.console import ConsoleProgress

    console = Console(highlight=False)
    with ConsoleProgress(console) as progress:
        return check(options.spec, options.overrides, options.preview, options.alignment, options.images, progress)


def _plugins(options: argparse.Namespace) -> int:
    from probekit.report.catalogue import print_layers, print_plugin, print_plugins

    if options.model is not None and options.name is not None:
        print_layers(options.name, options.model)
    elif options.name is not None:
        print_plugin(options.name)
    else:
        print_plugins()
    return 0


def _show(options: argparse.Namespace) -> int:
    from rich.console import Console

    from probekit.report.table import print_json, print_places, print_run
    from probekit.runner.run import load

    run = load(options.run)
    if options.json:
        print_json(run)
    else:
        console = Console(highlight=False)
        print_run(run, console)
        print_places(run, console)
    return 0


def _report(options: argparse.Namespace) -> int:
    from probekit.report.page import write_report
    from probekit.runner.folder import REPORT, display
    from probekit.runner.run import load

    out = Path(REPORT) if options.out is None and len(options.runs) > 1 else options.out
    print(f"Report   {display(write_report([load(run) for run in options.runs], out))}")
    return 0


def _figures(options: argparse.Namespace) -> int:
    from probekit.report.figures import DOUBLE, SINGLE, drawings, save
    from probekit.runner.folder import display
    from probekit.runner.run import load

    width = DOUBLE if options.width == "double" else SINGLE
    for path in save(drawings(load(options.run), width), options.out or Path("figures"), options.format):
        print(display(path))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    from probekit.api.errors import ProbekitError
    from probekit.report.compared import print_across, print_compared
    from probekit.runner.run import load

    if options.draws < 0:
        raise ProbekitError(f"--draws {options.draws}: from 0 on")
    runs = [load(path) for path in options.runs]
    console = Console(highlight=False)
    if len(runs) == 1:
        if options.out is not None:
            raise ProbekitError("--out is for several runs: the tables of one lie in its folder")
        print_compared(runs[0], console)
        return 0
    from probekit.runner.comparisons.across import compare_runs, write_across

    found = compare_runs(runs, options.draws)
    if options.out is not None:
        write_across(found, options.out)
    print_across(found, console)
    return 0


def _schema(_options: argparse.Namespace) -> int:
    import json

    from probekit.plugins import load_plugins
    from probekit.spec.schema import experiment_schema

    print(json.dumps(experiment_schema(load_plugins()), indent=2))
    return 0


def _store(options: argparse.Namespace) -> int:
    from probekit.report.storage import list_store, prune_store

    if options.action == "list":
        list_store(options.path)
    else:
        prune_store(options.path, options.unused_days, options.all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
