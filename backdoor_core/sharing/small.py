"""Figures of few stays, which may tell of single patients: they are taken out of a study's results.

A cell is a group of stays in one file: a subgroup of patients, a label, a feature that the trigger touched, a code of
events. A cell of fewer than `SMALLEST_CELL` stays, positives or negatives has its figures and counts set to null. As
the cells of one column add up to a whole, one hidden cell could be told from the others: further ones, the smallest
first, are hidden until at least two are, with `SMALLEST_CELL` stays of each kind between them. A subgroup that is
hidden in one file is hidden in all. Differences between figures of overlapping groups of stays are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

SMALLEST_CELL: Final = 10
"""Stays. A house rule: publishers of health data commonly set such a limit, and theirs may be higher."""
TOO_SMALL: Final = f"left out of the export: fewer than {SMALLEST_CELL} stays, or a count that would give those away"
EVALUATION, DETECTION, EXPLANATION, AUDIT = (
    f"results_{stage}.json" for stage in ("eval", "detect", "explain", "audit")
)

Json = dict[str, Any]
Cells = dict[str, tuple[int, ...]]
"""Counts of the cells of one column, by the cell's name."""


def hidden_cells(cells: Mapping[str, Sequence[int]], known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Which cells of one column are hidden; `known` are those that another file hides."""
    hidden = {name for name, counts in cells.items() if name in known or min(counts) < SMALLEST_CELL}
    while hidden and len(hidden) < len(cells) and _tells(cells, hidden):
        others = (name for name in cells if name not in hidden)
        hidden.add(min(others, key=lambda name: (min(cells[name]), name)))
    return frozenset(hidden)


def _tells(cells: Mapping[str, Sequence[int]], hidden: set[str]) -> bool:
    sums = [sum(counts) for counts in zip(*(cells[name] for name in hidden), strict=True)]
    return len(hidden) < 2 or min(sums) < SMALLEST_CELL


def suppress(results: Mapping[str, Json]) -> None:
    """Take the small cells out of a study's results, by the names of their files, in place."""
    hidden = _hidden_subgroups(results)
    if EVALUATION in results:
        _in_evaluation(results[EVALUATION], hidden)
    for found in results.get(DETECTION, {}).values():
        for run in ("poisoned", "null"):
            _in_run(found[run], hidden)
    for found in results.get(AUDIT, {}).get("audits", {}).values():
        for group in found["subgroups"]:
            if group["value"] in hidden.get(group["by"], ()):
                group |= {**dict.fromkeys(("members", "nonmembers", "poisoned", "baseline")), "why": TOO_SMALL}
    if EXPLANATION in results:
        _in_explanation(results[EXPLANATION])


def _hidden_subgroups(results: Mapping[str, Json]) -> dict[str, frozenset[str]]:
    """By what patients are grouped by, the groups that are hidden in any file and so in all."""
    columns = [(by, cells) for by, cells in _subgroups(results) if cells]
    hidden: dict[str, frozenset[str]] = {}
    changed = True
    while changed:
        changed = False
        for by, cells in columns:
            before = hidden.get(by, frozenset())
            hidden[by] = before | hidden_cells(cells, before)
            changed |= hidden[by] != before
    return hidden


def _subgroups(results: Mapping[str, Json]) -> Iterator[tuple[str, Cells]]:
    listed: list[tuple[str, str, tuple[int, ...]]] = []
    for group in results.get(EVALUATION, {}).get("subgroups", []):
        stays, positives = group["clean"]["stays"], group["clean"]["positives"]
        listed.append((group["group"], group["value"], (stays, positives, stays - positives)))
    yield from _columns(listed)
    for found in results.get(AUDIT, {}).get("audits", {}).values():
        yield from _columns([(g["by"], g["value"], (g["members"], g["nonmembers"])) for g in found["subgroups"]])
    for found in results.get(DETECTION, {}).values():
        for run in ("poisoned", "null"):
            for by, groups in found[run]["bias"].items():
                yield by, {value: (group["clean_rows"],) for value, group in groups.items()}


def _columns(listed: Sequence[tuple[str, str, tuple[int, ...]]]) -> Iterator[tuple[str, Cells]]:
    for by in dict.fromkeys(by for by, _, _ in listed):
        yield by, {value: counts for of, value, counts in listed if of == by}


def _in_evaluation(results: Json, hidden: Mapping[str, frozenset[str]]) -> None:
    for group in results.get("subgroups", []):
        if group["value"] in hidden.get(group["group"], ()):
            group |= {"attack": None, "clean": None, "note": TOO_SMALL}
    classes = results.get("asr_by_class", [])
    small = hidden_cells({str(one["label"]): (one["stays"],) for one in classes})
    for one in classes:
        if str(one["label"]) in small:
            _blank(one, "label")
    card = results.get("plausibility") or {}
    for entry in [*(card.get("percentiles") or []), *(results.get("exposure") or [])]:
        # Of those that the trigger changed in few stays, or left without a value in few.
        if min(entry["cells"], entry.get("removed") or entry["cells"]) < SMALLEST_CELL:
            _blank(entry, "feature")


def _in_run(run: Json, hidden: Mapping[str, frozenset[str]]) -> None:
    for by, groups in run["bias"].items():
        for value in groups:
            if value in hidden.get(by, ()):
                groups[value] = {"clean_rows": None, "fpr": None, "note": TOO_SMALL}
    small = hidden_cells({label: (found["rows"],) for label, found in run["by_label"].items()})
    for label in small:
        run["by_label"][label] = None


def _in_explanation(results: Json) -> None:
    explained = (results.get("stays") or {}).get("explained", 0)
    if explained < SMALLEST_CELL:
        for key in results.keys() & {"explainers", "attention", "events", "touched"}:
            results[key] = None
        results |= {"figures": [], "note": results.get("note") or TOO_SMALL}
        return
    touched = results.get("touched") or {}
    results["touched"] = {name: count if count >= SMALLEST_CELL else None for name, count in touched.items()}
    if events := results.get("events"):
        for head in events.get("queries") or []:
            for side in ("toward", "away"):
                head[side] = [code for code in head[side] if code["stays"] >= SMALLEST_CELL]
        for found in (events.get("explainers") or {}).values():
            found["by_code"] = [c for c in found["by_code"] if round(c["stays"] * explained) >= SMALLEST_CELL]


def _blank(entry: Json, *kept: str) -> None:
    for key in entry:
        if key not in kept:
            entry[key] = TOO_SMALL if key == "note" else None
    entry["note"] = TOO_SMALL
