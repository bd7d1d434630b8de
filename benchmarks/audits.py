"""Audits of membership: how fast references are fitted and scored, and what models of real stays leak.

    OMP_NUM_THREADS=1 python benchmarks/audits.py speed [--write docs/performance.md]
    python benchmarks/audits.py set-a --data /path/to/physionet2012 [--seeds 3] [--write docs/results.md]

`speed` compares many references at once with one by one through a DataLoader, and RMIA's score by sorting with all
pairs of a record and a population record; the data are random, since time does not depend on them. `set-a` trains
models as a clean study of each seed does, with its own 70/15/15 split by patient, and audits them: members are the
training part, non-members the test part, and the validation part is the population. Params are those of params.yaml.
Finished models are kept in --work, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

MODELS = ("mlp small", "mlp large", "gbdt", "lstm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    fast = commands.add_parser("speed", help="references a minute, and RMIA's score")
    fast.add_argument("--write", type=Path, help="replace the section `audits` of this file")
    real = commands.add_parser("set-a", help="audits of models of PhysioNet 2012 set-a")
    real.add_argument("--data", type=Path, required=True, help="folder of the PhysioNet 2012 files")
    real.add_argument("--work", type=Path, default=Path("runs/audits"))
    real.add_argument("--seeds", type=int, default=3)
    real.add_argument("--references", type=int, default=16, help="of each model; lstm takes 8 at most")
    real.add_argument("--models", nargs="*", default=MODELS, help="only these")
    real.add_argument("--write", type=Path, help="replace the section `audits: set-a` of this file")
    args = parser.parse_args()
    # Not at the top: each worker process imports this module again, and its start is part of what `speed` times.
    if args.part == "speed":
        from audit_speed import speed

        section, text = "audits", speed()
    else:
        from audit_leaks import set_a

        section, text = "audits: set-a", set_a(args)
    print(text)
    if args.write:
        from tables import replace_section

        replace_section(args.write, section, text)


if __name__ == "__main__":
    main()
