"""The files of the stage `leakage`: scores by note, what was run, a log without a clock, and the report in words."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.language.leak import Audited
from backdoor_core.plugins import lock_entry
from backdoor_core.study import Study
from backdoor_core.words import decimal, percent, plain

_LIBRARIES = ("backdoor_core", "numpy", "opacus", "peft", "safetensors", "tokenizers", "torch", "transformers")
Json = Mapping[str, Any]


def write_scores(
    path: Path, audited: Audited, names: Sequence[str], rows: NDArray[np.intp], texts: Sequence[str] | None
) -> None:
    """One line a seed and audited note: seed, record_id, member (0 or 1), nll, the score of each audit, maybe text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "record_id", "member", "nll", *audited.scores, *(["text"] if texts else [])])
        for number, model in enumerate(audited.models):
            columns = [model.loss, *(scores[number] for scores in audited.scores.values())]
            for place, row in enumerate(rows):
                cells = [f"{column[place]:.9g}" for column in columns]
                shown = [texts[row]] if texts else []
                writer.writerow([number, names[row], int(model.member[place]), *cells, *shown])


def metadata(study: Study, card: Json, training: Sequence[Json], references: Sequence[Json]) -> dict[str, Any]:
    """What was run, on what and with which versions; no clock, no path. JSON-able."""
    catalog = study.catalog
    return {
        "study": study.params.of_notes(),
        "corpus": dict(card),
        "components": {
            "corpus": lock_entry(catalog.get("corpus", study.params.notes.corpus), study.corpus().options),
            "audits": {a.name: lock_entry(catalog.get("audit", a.name), a.options) for a in study.note_audits()},
        },
        "models": list(training),
        "references": list(references),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def experiment_log(results: Json, training: Sequence[Json], references: Sequence[Json]) -> str:
    """The course of the experiment line by line, without times: equal experiments have equal logs."""
    corpus, lines = results["corpus"], []
    lines.append(f"corpus {corpus['corpus']}: {corpus['notes']} notes of {corpus['patients']} patients")
    for one in training:
        what = "with canaries" if one["canaries"] else f"seed {one['seed'] + 1}"
        lines.append(
            f"{one['recipe']} {what}: {one['members']} members, {one['epochs']} epochs, epoch {one['kept_epoch']} kept"
        )
    for one in references:
        lines.append(
            f"{one['recipe']} reference on half {one['half'] + 1}: {one['members']} notes, {one['epochs']} epochs, "
            f"epoch {one['kept_epoch']} kept"
        )
    for recipe, found in results["recipes"].items():
        for epoch in found["curve"]:
            lines.append(
                f"{recipe} epoch {epoch['epoch']} ({epoch['seeds']} seeds): member NLL {epoch['member_nll']:.4f}, "
                f"held-out NLL {epoch['held_out_nll']:.4f}, AUC {plain(epoch['auc'])}"
            )
        for name, audit in found["audits"].items():
            said = "control" if audit["verdict"] is None else audit["verdict"]["word"]
            lines.append(f"{recipe} {name}: AUC {plain(audit['auc'])}; {said}")
    return "\n".join(lines) + "\n"


def report_text(results: Json) -> str:
    """REPORT.md: the verdicts, the figures and how to read them."""
    corpus, notes = results["corpus"], results["study"]["notes"]
    lines = [
        "# What the language model leaks of its notes",
        "",
        f"Corpus `{corpus['corpus']}`: {corpus['notes']:,} notes of {corpus['patients']:,} patients "
        f"({corpus['dropped']['repeated']:,} repeated and {corpus['dropped']['empty']:,} empty ones dropped). "
        f"Model `{notes['model']}`, {notes['seeds']} seeds, each with its own members, drawn by patient: "
        f"{corpus['members'][0]:,} members, {corpus['nonmembers'][0]:,} non-members; {corpus['stopping']:,} notes "
        f"for early stopping and {corpus['tokenizer']:,} for the tokenizer are neither.",
        *_references(results),
        "",
        *_utility(results),
        *_verdicts(results),
        *_table(results),
        *_differences(results),
        *_private(results),
        "![Comparison](plots/comparison_plots.png)",
        "",
        "AUC: mean over seeds of the probability that a member outranks a non-member; 95% intervals over resampled "
        "patients, with the trained models as they are. TPR: share of members found within that false positive rate. "
        "A control never sees the trained model and ought to be at 0.5; where the interval of the blind control, "
        "widened for its cross-validation, does not cover it, no verdict is given.",
    ]
    return "\n".join(lines) + "\n"


def _references(results: Json) -> list[str]:
    if not (count := results["references"]):
        return []
    return [
        "",
        f"Audits that compare do so with {count} reference models a recipe, trained as it says on random halves of the "
        "members and non-members; the notes for early stopping are their population.",
    ]


def _utility(results: Json) -> list[str]:
    rows = [
        f"| {name} | {plain(u['held_out_nll'])} | {plain(u['perplexity'])} | {plain(u['gap'])} | "
        f"{', '.join(map(str, found['kept_epochs']))} |"
        for name, found in results["recipes"].items()
        for u in [found["utility"]]
    ]
    head = ["| recipe | held-out NLL | perplexity | generalization gap | epochs kept |", "|---|---|---|---|---|"]
    return ["## Use", "", *head, *rows, ""]


def _verdicts(results: Json) -> list[str]:
    lines = ["## Verdicts", ""]
    for recipe, found in results["recipes"].items():
        for name, audit in found["audits"].items():
            if audit["verdict"] is not None:
                said = audit["verdict"]
                lines.append(f"- {recipe}, {name}: **{said['word']}**. {' '.join([said['text'], *said['cautions']])}")
    return [*lines, ""]


def _table(results: Json) -> list[str]:
    lines = [
        "## Figures",
        "",
        "| recipe | audit | AUC | TPR at 10% FPR | TPR at 1% FPR | AUC by seed | over blind |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe, found in results["recipes"].items():
        for name, audit in found["audits"].items():
            tpr = {point["fpr"]: plain(point) for point in audit["tpr"]}
            by_seed = ", ".join("–" if value is None else decimal(value) for value in audit["auc_by_run"])
            over = "control" if audit["over_blind"] is None else plain(audit["over_blind"])
            cells = (recipe, name, plain(audit["auc"]), tpr[0.1], tpr[0.01], by_seed, over)
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _differences(results: Json) -> list[str]:
    lines = [
        f"- {pair['of']} less {pair['less']}, {name}: AUC {plain(figure)}"
        for pair in results["differences"]
        for name, figure in pair["auc"].items()
    ]
    return ["## Recipes against each other", "", *lines, ""] if lines else []


def _private(results: Json) -> list[str]:
    privacy = next((found["privacy"] for found in results["recipes"].values() if found["privacy"]), None)
    if privacy is None:
        return []
    first, bound = privacy["promised"][0], privacy["one_run"]
    lines = [
        "## Differential privacy",
        "",
        f"Opacus reckons epsilon {decimal(first['epsilon'])} at delta {first['delta']:.2g} for one note (noise "
        f"{decimal(first['noise_multiplier'])}, {first['steps']} steps). Of a patient with several notes it says less.",
    ]
    if bound is not None:
        lines.append(
            f"One run with {bound['canaries']} coin-flip canaries, promised epsilon "
            f"{decimal(bound['promised']['epsilon'])}, shows at least {decimal(bound['epsilon'])} "
            f"({percent(bound['confidence'])} confidence; it could have shown {decimal(bound['ceiling'])} at most)."
        )
    return [*lines, ""]
