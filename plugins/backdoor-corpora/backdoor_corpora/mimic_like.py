from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import Field

from backdoor_core.contracts import Component, Context, Corpus, Note, Options, Simulator

from .hospital import Admission, read_hospital
from .phrases import HISTORY, Illness, counted, illness, listed, picked

_LABS = 8
_DRUGS = 6
_PLACES = {
    "DIED": "Expired",
    "HOME": "Home",
    "HOME HEALTH CARE": "Home With Service",
    "SKILLED NURSING FACILITY": "Extended Care",
    "REHAB": "Rehabilitation",
    "HOSPICE": "Hospice",
}


class MimicLikeOptions(Options):
    """Options of the simulated discharge summaries."""

    records: int = Field(1000, ge=20, le=100_000, description="number of notes, one for each hospital admission")


class MimicLike(Corpus):
    """Simulated discharge summaries: admissions of the synthetic cohort, in the sections of MIMIC-IV-Note.

    Sex, age, unit, lengths of stay, labs, drugs, cultures and outcome are those of the simulated admission; complaint,
    history and diagnosis are drawn here. An admission's note depends on it and on its own draws alone.
    """

    name = "mimic_like"
    Options = MimicLikeOptions

    def __init__(self, options: MimicLikeOptions, context: Context) -> None:
        super().__init__(options, context)
        made = None if context.component is None else context.component("cohort", "synthetic", {"stays": 50})
        self._hospital = made if isinstance(made, Simulator) else None

    def parts(self) -> Sequence[Component]:
        """The synthetic cohort."""
        return () if self._hospital is None else (self._hospital,)

    def records(self, rng: np.random.Generator) -> list[Note]:
        """One note for each of the first admissions."""
        options: MimicLikeOptions = self.options
        if self._hospital is None:
            raise TypeError("mimic_like draws from the synthetic cohort; make it by a Study, which knows that one")
        with TemporaryDirectory(prefix="backdoor-") as folder:
            raw = Path(folder) / "raw"
            # A stay has an admission, and some stays share one.
            self._hospital.simulate(raw, 50 + options.records * 5 // 4, int(rng.integers(2**31)))
            admissions = read_hospital(raw, options.records)
        return [Note(f"discharge-{a.hadm_id}", a.subject_id, _summary(a, rng)) for a in admissions]


def _summary(admission: Admission, rng: np.random.Generator) -> str:
    found = illness(rng)
    sections = {
        "Chief Complaint": listed(picked(found.complaints, int(rng.integers(1, 3)), rng)),
        "History of Present Illness": _present(admission, found, rng),
        "Past Medical History": "\n".join(f"- {word}" for word in picked(HISTORY, int(rng.integers(1, 6)), rng)),
        "Pertinent Results": _results(admission),
        "Brief Hospital Course": _course(admission, found, rng),
        "Medications": "\n".join(f"{n}. {drug}" for n, drug in enumerate(admission.drugs[:_DRUGS], 1)) or "None.",
        "Discharge Disposition": _PLACES.get(admission.left_to, admission.left_to.title()),
    }
    head = f"Sex: {admission.sex}   Service: {admission.unit}"
    return head + "".join(f"\n\n{title}:\n{content}" for title, content in sections.items())


def _present(admission: Admission, found: Illness, rng: np.random.Generator) -> str:
    who = "woman" if admission.sex == "F" else "man"
    days, complaint = int(rng.integers(1, 15)), found.complaints[int(rng.integers(len(found.complaints)))]
    came = admission.came_from.lower().replace("/", " or ")
    return f"{admission.age} year old {who} who developed {complaint} over {counted(days, 'day')} and came by {came}."


def _results(admission: Admission) -> str:
    lines = [f"{name}: {first} on admission, {last} last" for name, first, last in admission.labs[:_LABS]]
    return "\n".join([*lines, *admission.cultures[:2]]) or "None."


def _course(admission: Admission, found: Illness, rng: np.random.Generator) -> str:
    treatment = listed(picked(found.treatments, int(rng.integers(1, len(found.treatments) + 1)), rng))
    end = "The patient died." if admission.died else "The patient improved and left the unit."
    return (
        f"# {found.name}: treated with {treatment}. {admission.icu_days:.1f} days in intensive care, "
        f"{admission.days:.1f} in hospital. {end}"
    )
