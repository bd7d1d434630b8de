"""How long the missing cells of a sweep may take."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from backdoor_core.study import Study
from backdoor_core.sweep.plan import Planned
from backdoor_core.sweep.store import Store
from backdoor_core.workers import cpus

_ROUGH_FIT = {"table": 2.0, "series": 30.0, "events": 45.0}
"""Seconds of one fit on 10,000 stays and one CPU, where no finished cell tells: the order of magnitude alone."""
_ROUGH_JUDGING = 4.0


def estimate(study: Study, planned: Sequence[Planned], missing: Sequence[Planned], store: Store) -> str:
    """One line: fits and minutes that are missing, and what the estimate rests on."""
    if not missing:
        return f"{_counted(len(planned), 'cell')}, all of them finished"
    clean = {one.clean: one for one in missing if not (store.clean(one) / "clean.json").is_file()}
    clean_fits = sum(map(_clean_fits, clean.values()))
    fits = len(missing) + clean_fits
    seconds, measured = 0.0, 0
    for model in dict.fromkeys(one.cell.model for one in planned):
        of_model = [one for one in planned if one.cell.model == model]
        rough = _ROUGH_FIT[of_model[0].lock["view"]]
        known = [store.timings(store.cell(one.cell.name)) for one in of_model if store.record(one) is not None]
        measured += len(known)
        cell = median([sum(found.values()) for found in known]) if known else rough + _ROUGH_JUDGING
        fit = median([found.get("train", rough) for found in known]) if known else rough
        seconds += cell * sum(one.cell.model == model for one in missing)
        seconds += fit * sum(_clean_fits(one) for one in clean.values() if one.cell.model == model)
    workers = study.params.sweep.workers or cpus()
    basis = (
        f"from {_counted(measured, 'finished cell')}"
        if measured
        else "a rough guess: no cell of these models is finished"
    )
    minutes = max(1, round(seconds / workers / 60))
    return (
        f"{_counted(len(planned), 'cell')}, {len(missing):,} to do: {_counted(fits, 'fit')} ({clean_fits:,} of them "
        f"clean), about {_counted(minutes, 'minute')} with {_counted(workers, 'worker')} ({basis})"
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _clean_fits(planned: Planned) -> int:
    """The clean twin and the clean retrains."""
    return 1 + planned.cell.params.detection.nulls
