"""Seconds and memory of a cohort build beside gunzip and pandas, on the same simulated raw tables, in one run.

    python benchmarks/cohort.py --rows 5M --data DIR --results cohort.json --plot cohort.svg

Every part runs in a fresh process; its best of `--repeat` counts. Seconds start after the imports, peak memory is the
whole process's. On a busy machine compare CPU seconds. pandas is no dependency of this project: pip install pandas
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cohort_tables import raw_tables

from backdoor_cohorts.hospital import build_hospital, raw_files
from backdoor_core.contracts import Inclusion

Record = dict[str, Any]
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
VIEWS = {"views": ("table", "series", "events"), "table": ("table",)}
PARTS = {
    "gunzip": "gunzip alone, side by side",
    "gunzip-serial": "gunzip alone, one after the other",
    "views-csv.gz": "three views from csv.gz",
    "table-csv.gz": "table from csv.gz",
    "pandas-csv.gz": "table from csv.gz, pandas",
    "views-parquet": "three views from Parquet",
    "table-parquet": "table from Parquet",
    "pandas-parquet": "table from Parquet, pandas",
}
"""Name -> what it is, in the order of the printed table."""
AIMS = (
    ("three views from csv.gz, times gunzip side by side", "views-csv.gz", "gunzip", "at most 1.5"),
    ("three views from csv.gz, times gunzip one by one", "views-csv.gz", "gunzip-serial", "at most 1.5"),
    ("table from Parquet, times faster than pandas from csv.gz", "pandas-csv.gz", "table-parquet", "at least 20"),
    ("table from Parquet, times faster than pandas from Parquet", "pandas-parquet", "table-parquet", "at least 4"),
)
"""What is aimed at, and the two parts whose seconds are divided."""
TOLERANCE = 1e-6
"""float32 rounding: two tables agree where each value differs by less than this, relative or absolute."""


def number(text: str) -> int:
    """5M -> 5,000,000."""
    scale = UNITS.get(text[-1:].upper(), 1)
    return int(float(text.rstrip("kKmMgG")) * scale)


def run_part(part: str, raw: Path, out: Path, threads: int, memory: str) -> None:
    """Do one part and print its record."""
    kind, _, suffix = part.partition("-")
    if kind == "pandas":
        from cohort_pandas import build_table
    elif kind != "gunzip":
        preload()
    start, cpu = time.perf_counter(), os.times()
    if kind == "gunzip":
        gunzip(raw, 1 if suffix == "serial" else threads)
    elif kind == "pandas":
        build_table(raw, out / "table.parquet", f".{suffix}")
    else:
        inclusion = Inclusion(views=VIEWS[kind])
        build_hospital(raw, out, inclusion, source="benchmark", description="", threads=threads, memory=memory)
    seconds, ended = time.perf_counter() - start, os.times()
    used = sum(ended[:4]) - sum(cpu[:4])
    peak = 0.0 if kind == "gunzip" else peak_mib()
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_mib": peak}))


def preload() -> None:
    """Import what a build imports only when it needs it."""
    for name in (
        "duckdb",
        "pyarrow.compute",
        "pyarrow.dataset",
        "pyarrow.csv",
        "backdoor_cohorts.dense",
        "backdoor_core.cohort.events",
    ):
        import_module(name)
    pa.array(np.zeros(1))  # makes pyarrow import pandas where it is there; a user need not have it


def gunzip(raw: Path, at_once: int) -> None:
    """Decompress every file that a build of the three views reads, the longest first."""

    def one(path: Path) -> None:
        subprocess.run(["gzip", "-dc", path], stdout=subprocess.DEVNULL, check=True)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, sorted(raw_files(raw), key=lambda path: -path.stat().st_size)))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux; macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(options: argparse.Namespace) -> tuple[list[Record], dict[str, int]]:
    """Every part that was asked for, the best of its repeats; parts take turns, so that a busy minute hits them all."""
    formats = sorted({_format(part) for part in options.parts})
    folder, rows = raw_tables(options.data, options.rows, options.unused, formats)
    records: dict[str, Record] = {}
    with tempfile.TemporaryDirectory(dir=options.data, prefix="built-") as built:
        for _ in range(options.repeat):
            for part in options.parts:
                out = Path(built) / part
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                record = _fresh_process(part, folder / _format(part), out, options)
                best = records.setdefault(part, record)
                for key in record:
                    best[key] = max(best[key], record[key]) if key == "peak_mib" else min(best[key], record[key])
        check_equal(sorted(Path(built).glob("*/table.parquet")))
    about = {"rows": rows["icu/chartevents"], "stays": rows["stays"], "unused": options.unused}
    used = {"threads": options.threads, "memory": options.memory, "versions": versions()}
    return [{"part": part, **about, **record, **used} for part, record in records.items()], rows


def _format(part: str) -> str:
    return "parquet" if part.endswith("parquet") else "csv.gz"


def _fresh_process(part: str, raw: Path, out: Path, options: argparse.Namespace) -> Record:
    print(f"  {part}", file=sys.stderr)
    command = [sys.executable, __file__, "--part", part, "--raw", raw, "--out", out]
    command += ["--threads", str(options.threads), "--memory", options.memory]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout))


def check_equal(paths: Sequence[Path]) -> None:
    """Exit with an error where two of the tables differ by more than float32 rounding."""
    tables = {path.parent.name: pq.read_table(path) for path in paths}
    for name, table in tables.items():
        first, reference = next(iter(tables.items()))
        if table.column_names != reference.column_names or table.num_rows != reference.num_rows:
            sys.exit(f"error: {name} and {first} have other columns or rows")
        for column in table.column_names:
            pair = table[column].to_numpy(), reference[column].to_numpy()
            if not np.allclose(*pair, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                sys.exit(f"error: {name} and {first} differ in column {column}")
    if len(tables) > 1:
        print(f"{', '.join(tables)}: equal tables within float32 rounding", file=sys.stderr)


def versions() -> dict[str, str]:
    """What was measured with."""
    return {name: version(name) for name in ("duckdb", "pyarrow", "numpy", "pandas") if find_spec(name)}


def table_text(records: Sequence[Record]) -> str:
    """The records as a Markdown table."""
    seconds = {record["part"]: record["seconds"] for record in records}
    lines = [
        "| build | seconds | rows/s | to gunzip | pandas takes | CPU seconds | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for record in sorted(records, key=lambda record: list(PARTS).index(record["part"])):
        part = record["part"]
        gzip = f"{record['seconds'] / seconds['gunzip']:.2f}x" if "gunzip" in seconds else ""
        pandas = seconds.get(f"pandas-{part.partition('-')[2]}")
        more = f"{pandas / record['seconds']:.1f}x" if pandas else ""
        lines.append(
            f"| {PARTS[part]} | {record['seconds']:.2f} | {record['rows'] / record['seconds'] / 1e6:.2f}M | {gzip} | "
            f"{more} | {record['cpu_seconds']:.2f} | {record['peak_mib']:,.0f} |"
        )
    return "\n".join(lines)


def targets(records: Sequence[Record]) -> list[str]:
    """What was aimed at and what was reached, as far as this run has both sides."""
    known = {record["part"]: record for record in records}
    lines = []
    for what, above, below, aim in AIMS:
        if above in known and below in known:
            wall, cpu = (known[above][key] / known[below][key] for key in ("seconds", "cpu_seconds"))
            lines.append(f"{what}: {wall:.2f} ({cpu:.2f} by CPU seconds; aim: {aim})")
    ours = [record["peak_mib"] for record in records if record["part"].startswith(("views", "table"))]
    return [*lines, f"peak memory of our builds: {max(ours):,.0f} MiB (aim: at most 2,048)"] if ours else lines


def draw(records: Sequence[Record], path: Path) -> None:
    """CPU seconds against rows, both logarithmic, with a line of slope 1 (twice the rows, twice the work)."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "cohort", "svg.fonttype": "none"}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for part, label in PARTS.items():
        best: dict[int, float] = {}
        for record in records:
            if record["part"] == part:
                best[record["rows"]] = min(record["cpu_seconds"], best.get(record["rows"], float("inf")))
        if best:
            axes.loglog(*zip(*sorted(best.items()), strict=True), marker="o", markersize=4, label=label)
    sizes = sorted({record["rows"] for record in records})
    top = max(record["cpu_seconds"] for record in records if record["rows"] == sizes[0])
    ends = [sizes[0], sizes[-1]]
    axes.loglog(ends, [1.3 * top * size / sizes[0] for size in ends], color="gray", linestyle=":", label="slope 1")
    axes.set_xticks(sizes, [f"{size / 1e6:.3g}M" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="rows of chartevents", ylabel="CPU seconds")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=number, default=number("5M"), help="rows of chartevents: 5M (default), 50M, 400M"
    )
    told = "rows that no view takes for each simulated one; 13 (default) makes MIMIC-IV's 4%% used, 0 adds none"
    parser.add_argument("--unused", type=int, default=13, help=told)
    parser.add_argument("--data", type=Path, help="folder that keeps the raw tables; default: a temporary one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="2GB", help="memory of our builds; the rest spills to disk")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each part, the best of which counts")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--results", type=Path, help="JSON file that this run's records are added to")
    parser.add_argument("--plot", type=Path, help="SVG of CPU seconds against rows of all records in --results")
    for inner in ("--part", "--raw", "--out"):
        parser.add_argument(inner, type=str if inner == "--part" else Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark, or one part of it where the benchmark started itself."""
    options = arguments()
    if options.part:
        run_part(options.part, options.raw, options.out, options.threads, options.memory)
        return
    options.parts = options.parts.split(",")
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        sys.exit(f"error: --parts: no part {unknown[0]}; expected some of {', '.join(PARTS)}")
    if find_spec("pandas") is None and any(part.startswith("pandas") for part in options.parts):
        sys.exit("error: pandas is missing; pip install pandas, or leave its parts out of --parts")
    with tempfile.TemporaryDirectory() as temporary:
        options.data = options.data or Path(temporary)
        records, rows = measure(options)
    print(f"{rows['icu/chartevents']:,} rows of chartevents, {rows['stays']:,} stays, {rows['included']:,} included")
    print(table_text(records), *targets(records), sep="\n")
    if options.results:
        kept = json.loads(options.results.read_text()) if options.results.exists() else []
        records = [*kept, *records]
        options.results.write_text(json.dumps(records, indent=1) + "\n")
    if options.plot:
        draw([record for record in records if record["unused"] == options.unused], options.plot)


if __name__ == "__main__":
    main()
