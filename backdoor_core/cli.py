"""`backdoor <verb>`; `python -m backdoor_core <verb>` is the same."""

import errno
import gc
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

import click

from backdoor_core.console import say
from backdoor_core.contracts import Simulator
from backdoor_core.errors import BackdoorError
from backdoor_core.stages import STAGES
from backdoor_core.stages.warm_up import warm_up
from backdoor_core.study import Study, idle_options, load_study
from backdoor_core.threads import limit_threads

_ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder of the study, where params.yaml is.  [default: this folder]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backdoor_core", prog_name="backdoor")
def cli() -> None:
    """Backdoor attacks on clinical prediction models, and catching them.

    A study is a folder with a params.yaml. `dvc repro` runs all its stages, each of which is a verb here.
    """


@cli.command()
@_ROOT
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--lock", is_flag=True, help="Check the study and write plugins.lock.json: the first stage.")
def plugins(root: Path, as_json: bool, lock: bool) -> None:
    """List the installed components with their options."""
    if lock:
        study = load_study(root)
        _run_stage("plugins", study)
        for line in idle_options(study):
            say(f"warning: {line}")
        return
    from rich.console import Console

    from backdoor_core.files import json_text
    from backdoor_core.listing import as_json as catalog_as_json, render_table
    from backdoor_core.plugins import discover

    catalog = discover()
    if as_json:
        click.echo(json_text(catalog_as_json(catalog)), nl=False)
    else:
        Console().print(render_table(catalog))


@cli.command()
@_ROOT
@click.option("--source", default="synthetic", show_default=True, help="The source that simulates.")
@click.option("--stays", type=click.IntRange(min=1), required=True, help="Stays that the default rules include.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for hosp/ and icu/.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True)
@click.option("--format", type=click.Choice(["parquet", "csv.gz"]), default="parquet", show_default=True)
def simulate(root: Path, source: str, stays: int, out: Path, seed: int, format: Literal["parquet", "csv.gz"]) -> None:
    """Write a simulated hospital's raw tables, at any size, in bounded memory."""
    component = load_study(root).component("cohort", source)
    if not isinstance(component, Simulator):
        raise BackdoorError(f"cohort {source} does not simulate; only a contracts.Simulator does, such as synthetic")
    written = component.simulate(out, stays, seed, format=format)
    say(f"{out}: {', '.join(f'{rows:,} {table}' for table, rows in sorted(written.items()))}")


@cli.command()
@_ROOT
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Splits, poisonings and fits.")
@click.option(
    "--lift",
    "levels",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    default=(0.5, 0.9),
    show_default=True,
    help="To reach.",
)
@click.option(
    "--most", type=click.FloatRange(0, 0.5, min_open=True), default=0.1, show_default=True, help="Largest rate tried."
)
def dose(root: Path, seeds: int, levels: tuple[float, ...], most: float) -> None:
    """Find the smallest number of poisoned stays that works, by bisection over retrained models."""
    # Imported here: torch takes seconds.
    from backdoor_core.stages import dose as module

    study = load_study(root)
    _check_writable(study.paths.run / "dose.json")
    module.run(study, seeds, levels, most)


@cli.command()
@_ROOT
@click.option("--dry-run", is_flag=True, help="Print the cells and how long they may take, and do nothing.")
def sweep(root: Path, dry_run: bool) -> None:
    """Run the grid of studies under `sweep` in params.yaml; goes on where it was stopped.

    Exit status 2: some cells failed; their errors are in summary.csv, and the next run tries them again.
    """
    # Imported here: torch takes seconds.
    from backdoor_core.sweep import sweep as module

    if dry_run:
        module.dry_run(load_study(root))
    elif module.run(load_study(root)):
        sys.exit(2)


@cli.command()
@_ROOT
@click.option("--sweep", "name", help="Export the sweep of this name, in place of the study.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: export.zip in the folder]")
def export(root: Path, name: str | None, out: Path | None) -> None:
    """Make a zip of scores, figures and provenance that holds no patient's values, and check that.

    docs/sharing.md says what is in it and what the check guarantees.
    """
    from backdoor_core.sharing.export import export_study, export_sweep

    target = out or root / "export.zip"
    written = export_study(load_study(root), target) if name is None else export_sweep(root, name, target)
    say(f"export: {written}, {written.stat().st_size / 2**20:.1f} MiB")


def _run_stage(name: str, study: Study) -> None:
    warm_up(name, study)
    # Imported here: most stages import torch, which takes seconds, a tenth of them for the collection of no garbage.
    gc.disable()
    module = importlib.import_module(f"backdoor_core.stages.{name}")
    gc.enable()
    limit_threads(study.params.train.threads)
    module.run(study)


def _check_writable(path: Path) -> None:
    """Raises `OSError` where the file cannot be written: better before hours of work than after."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Where the folder itself is missing, nothing should stay behind of a study that is then refused.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _stage_command(name: str) -> click.Command:
    module = Path(__file__).parent / "stages" / f"{name}.py"
    first_line = module.read_text(encoding="utf-8").partition("\n")[0]
    summary = first_line.strip('"').partition(": ")[2]

    @click.command(name, help=f"Stage: {summary}")
    @_ROOT
    def command(root: Path) -> None:
        _run_stage(name, load_study(root))

    return command


for _stage in STAGES:
    cli.add_command(_stage_command(_stage))


def main() -> None:
    """Run the command line. Errors meant for the user are one line and exit status 1."""
    try:
        cli(prog_name="backdoor")
    except BackdoorError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # Of a closed pipe click has made an exit already.
        print(f"error: {_os_error(error)}", file=sys.stderr)
        sys.exit(1)


def _os_error(error: OSError) -> str:
    """The file and what is the matter with it; libraries raise some without either."""
    what = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{os.fspath(error.filename)}: {what}" if isinstance(error.filename, (str, Path)) else what
