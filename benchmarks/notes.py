"""What language models leak of simulated notes and of MTSamples, by recipe: the tables of docs/results.md.

    python benchmarks/notes.py --corpora simple mtsamples --data /path/to/mtsamples [--write docs/results.md]
    python benchmarks/notes.py --recipes baseline dp [--write docs/results.md]

Params are those of params.yaml but for the corpus and the recipes. A corpus whose results are in --work is not trained
again. On two CPUs `simple` takes four minutes; one of the six models of MTSamples takes nine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from tables import replace_section

from backdoor_core.files import read_json
from backdoor_core.language.results import report_text

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = (("plugins", "--lock"), ("notes",), ("finetune",), ("leakage",))
NOT_SHOWN = ("# ", "![")


def study(folder: Path, corpus: str, data: Path | None, recipes: Sequence[str]) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["notes"] |= {"corpus": "simple", "recipe": list(recipes)}
    if corpus == "mtsamples":
        if data is None:
            sys.exit("--corpora mtsamples needs --data, the folder of mtsamples.csv.gz")
        params["notes"]["corpus"] = "text"
        params["corpora"]["text"] = {"path": str(data.resolve() / "mtsamples.csv.gz"), "text": "transcription"}
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpora", nargs="+", choices=["simple", "mtsamples"], default=["simple"])
    parser.add_argument("--recipes", nargs="+", default=["baseline", "regularized"])
    parser.add_argument("--data", type=Path, help="folder of mtsamples.csv.gz")
    parser.add_argument("--work", type=Path, default=Path("run/benchmark-notes"))
    parser.add_argument("--write", type=Path, help="file whose sections are replaced")
    given = parser.parse_args(arguments)
    for corpus in given.corpora:
        folder = given.work / "-".join([corpus, *given.recipes])
        if not (folder / "run" / "notes" / "leakage" / "comparison.json").is_file():
            study(folder, corpus, given.data, given.recipes)
        text = section(folder)
        print(text)
        if given.write:
            replace_section(given.write, f"notes: {folder.name}", text)


if __name__ == "__main__":
    main()
