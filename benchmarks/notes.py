"""What language models leak of simulated notes and of MTSamples, by recipe: the tables of docs/results.md.

    python benchmarks/notes.py --corpora simple mtsamples --data /path/to/mtsamples [--write docs/results.md]
    python benchmarks/notes.py --recipes baseline dp [--write docs/results.md]
    python benchmarks/notes.py --audits loss_threshold reference lira rmia blind untrained [--write docs/results.md]
    python benchmarks/notes.py --corpora mtsamples --data /path/to/mtsamples --splits 24

Params are those of params.yaml but for the corpus, the recipes, five seeds of MTSamples, and what is given. A corpus
whose results are in --work is not trained again. On two CPUs `simple` takes four minutes, MTSamples an hour. `--splits`
asks what the blind control says of so many other random splits of the same notes: that a study's own is away from 0.5
may be its luck, or its fault.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml
from tables import replace_section

from backdoor_audits.blind import Blind, BlindOptions
from backdoor_core.auditing import AuditCase, Signals
from backdoor_core.contracts import Context
from backdoor_core.files import read_json
from backdoor_core.language.results import report_text
from backdoor_core.ranking import auroc

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = (("plugins", "--lock"), ("notes",), ("finetune",), ("note_references",), ("leakage",))
NOT_SHOWN = ("# ", "![")
SEEDS = {"mtsamples": 5}
"""In place of those of params.yaml: with three its blind control is at the mercy of the splits."""


def study(folder: Path, corpus: str, given: argparse.Namespace) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["notes"] |= {"corpus": "simple", "recipe": list(given.recipes)}
    if given.audits:
        params["notes"]["audits"] = list(given.audits)
    if seeds := given.seeds or SEEDS.get(corpus):
        params["notes"]["seeds"] = seeds
    if corpus == "mtsamples":
        if given.data is None:
            sys.exit("--corpora mtsamples needs --data, the folder of mtsamples.csv.gz")
        params["notes"]["corpus"] = "text"
        params["corpora"]["text"] = {"path": str(given.data.resolve() / "mtsamples.csv.gz"), "text": "transcription"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for stage in STAGES:
        print(f"{corpus}: {stage[0]}", file=sys.stderr)
        if subprocess.run([sys.executable, "-m", "backdoor_core", *stage], cwd=folder, check=False).returncode:
            sys.exit(1)


def section(folder: Path) -> str:
    """The report without its title and picture, its headings in bold."""
    results = read_json(folder / "run" / "notes" / "leakage" / "comparison.json")
    lines = [line for line in report_text(results).splitlines() if not line.startswith(NOT_SHOWN)]
    shown = [f"**{line.removeprefix('## ')}**" if line.startswith("## ") else line for line in lines]
    return "\n".join(shown).strip()


def blind_on_other_splits(folder: Path, splits: int) -> str:
    """Mean and standard deviation of the blind control's AUC where members are drawn anew, with no model at all."""
    notes = folder / "run" / "notes" / "corpus"
    texts, parts = (pq.read_table(notes / f"{name}.parquet").to_pydict() for name in ("notes", "split"))
    audited = np.flatnonzero(np.isin(parts["seed_0"], ["member", "nonmember"]))
    patients = np.array(texts["subject_id"])[audited]
    members = parts["seed_0"].count("member") / len(audited)
    blind = Blind(BlindOptions(source="texts"), Context(folder))
    found = []
    for number in range(splits):
        rng = np.random.default_rng(number)
        distinct, patient = np.unique(patients, return_inverse=True)
        member = np.isin(patient, rng.permutation(len(distinct))[: round(members * len(distinct))])
        signals = Signals(groups=patients, texts=[texts["text"][row] for row in audited], truth=member)
        found.append(auroc(blind.score(AuditCase(signals, rng, blind.requires)), member))
        print(f"split {number + 1} of {splits}: {found[-1]:.3f}", file=sys.stderr)
    mean, sd = np.mean(found), np.std(found, ddof=1)
    return f"blind on {splits} other random splits: AUC {mean:.3f}, standard deviation {sd:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpora", nargs="+", choices=["simple", "mtsamples"], default=["simple"])
    parser.add_argument("--recipes", nargs="+", default=["baseline", "regularized"])
    parser.add_argument("--audits", nargs="+", default=[], help="in place of those of params.yaml")
    parser.add_argument("--seeds", type=int, help="in place of those of params.yaml, or of five of MTSamples")
    parser.add_argument("--data", type=Path, help="folder of mtsamples.csv.gz")
    parser.add_argument("--work", type=Path, default=Path("run/benchmark-notes"))
    parser.add_argument("--splits", type=int, default=0, help="other random splits for the blind control")
    parser.add_argument("--write", type=Path, help="file whose sections are replaced")
    given = parser.parse_args(arguments)
    for corpus in given.corpora:
        seeds = [f"{given.seeds}-seeds"] if given.seeds else []
        folder = given.work / "-".join([corpus, *given.recipes, *given.audits, *seeds])
        if not (folder / "run" / "notes" / "leakage" / "comparison.json").is_file():
            study(folder, corpus, given)
        text = section(folder)
        print(text)
        if given.splits:
            print(blind_on_other_splits(folder, given.splits))
        if given.write:
            replace_section(given.write, f"notes: {folder.name}", text)


if __name__ == "__main__":
    main()
