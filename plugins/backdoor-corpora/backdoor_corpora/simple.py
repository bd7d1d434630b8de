import numpy as np
from pydantic import Field

from backdoor_core.contracts import Corpus, Note, Options

from .phrases import HISTORY, counted, illness, listed, picked

_FIRST_SUBJECT = 20_000_001


class SimpleOptions(Options):
    """Options of the short simulated notes."""

    records: int = Field(1000, ge=20, le=1_000_000, description="number of notes")
    again: float = Field(0.2, ge=0, lt=1, description="chance that the next note is of the same patient again")


class Simple(Corpus):
    """Short simulated notes: complaint, history, vital signs, labs, assessment and plan. Needs no data.

    Every number and choice of words is drawn by itself, so that no note tells of another, and what a model knows of
    one note beyond their common form it can only know from that note.
    """

    name = "simple"
    Options = SimpleOptions

    def records(self, rng: np.random.Generator) -> list[Note]:
        """The notes; the first of more are those of fewer, for the same generator."""
        options: SimpleOptions = self.options
        notes: list[Note] = []
        subject, age, sex = _FIRST_SUBJECT - 1, 0, ""
        for number in range(options.records):
            if not notes or rng.random() >= options.again:
                subject, age, sex = subject + 1, int(rng.integers(19, 95)), ("male", "female")[rng.integers(2)]
            notes.append(Note(f"note-{number:06d}", subject, _text(age, sex, rng)))
        return notes


def _text(age: int, sex: str, rng: np.random.Generator) -> str:
    found = illness(rng)
    complaints = picked(found.complaints, int(rng.integers(1, 3)), rng)
    history = picked(HISTORY, int(rng.integers(1, 4)), rng)
    systolic = int(rng.normal(122, 22))
    vitals = (
        f"HR {int(rng.normal(92, 18))}, BP {systolic}/{int(systolic * rng.uniform(0.5, 0.7))}, "
        f"RR {int(rng.normal(20, 4))}, T {rng.normal(37.4, 0.7):.1f}, SpO2 {min(100, int(rng.normal(95, 3)))}%"
    )
    labs = f"WBC {rng.lognormal(2.3, 0.4):.1f}, Cr {rng.lognormal(0.2, 0.5):.1f}, lactate {rng.lognormal(0.5, 0.5):.1f}"
    days, weeks = int(rng.integers(1, 15)), int(rng.integers(1, 9))
    return (
        f"{age} yo {sex} with {listed(complaints)} for {counted(days, 'day')}. PMH: {listed(history)}. "
        f"{vitals}. {labs}. Assessment: {found.name}. Plan: {listed(found.treatments)}. "
        f"Follow up in {counted(weeks, 'week')}."
    )
