"""What the simulated notes are made of. Common diagnoses come first; see `picked`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Illness:
    """A diagnosis with what brings the patient in and what is done."""

    name: str
    complaints: tuple[str, ...]
    treatments: tuple[str, ...]


ILLNESSES = (
    Illness("pneumonia", ("cough", "fever", "shortness of breath"), ("ceftriaxone 1 g IV", "azithromycin 500 mg PO")),
    Illness("heart failure", ("leg swelling", "orthopnea", "weight gain"), ("furosemide 40 mg IV", "low sodium diet")),
    Illness("urosepsis", ("confusion", "dysuria", "rigors"), ("cefepime 2 g IV", "lactated ringers 1 L")),
    Illness("COPD exacerbation", ("wheezing", "shortness of breath"), ("prednisone 40 mg PO", "albuterol nebulizer")),
    Illness("upper GI bleed", ("melena", "dizziness"), ("pantoprazole 40 mg IV", "endoscopy in the morning")),
    Illness("NSTEMI", ("chest pressure", "diaphoresis"), ("aspirin 325 mg PO", "heparin drip")),
    Illness("acute kidney injury", ("poor oral intake", "low urine output"), ("normal saline 1 L", "hold lisinopril")),
    Illness("atrial fibrillation", ("palpitations", "fatigue"), ("metoprolol 5 mg IV", "apixaban 5 mg PO")),
    Illness("cellulitis", ("leg redness", "fever"), ("vancomycin 1 g IV", "leg elevation")),
    Illness("diabetic ketoacidosis", ("vomiting", "polyuria", "abdominal pain"), ("insulin drip", "potassium 40 mEq")),
    Illness("acute pancreatitis", ("epigastric pain", "nausea"), ("hydromorphone 0.5 mg IV", "nothing by mouth")),
    Illness("ischemic stroke", ("left arm weakness", "slurred speech"), ("aspirin 81 mg PO", "head CT and MRI")),
    Illness("pulmonary embolism", ("pleuritic pain", "shortness of breath"), ("heparin drip", "echocardiogram")),
    Illness("alcohol withdrawal", ("tremor", "agitation"), ("lorazepam 2 mg IV", "thiamine 100 mg IV")),
    Illness("small bowel obstruction", ("distension", "vomiting"), ("nasogastric tube", "surgery consult")),
    Illness("Addisonian crisis", ("fatigue", "hypotension"), ("hydrocortisone 100 mg IV", "endocrine consult")),
    Illness("Wegener's granulomatosis", ("hemoptysis", "sinus pain"), ("methylprednisolone 1 g IV", "renal biopsy")),
    Illness(
        "thrombotic thrombocytopenic purpura", ("petechiae", "confusion"), ("plasma exchange", "prednisone 60 mg PO")
    ),
)
HISTORY = (
    "hypertension",
    "type 2 diabetes",
    "hyperlipidemia",
    "coronary artery disease",
    "asthma",
    "chronic kidney disease",
    "hypothyroidism",
    "depression",
    "prior stroke",
    "osteoarthritis",
    "breast cancer",
    "gout",
    "cirrhosis",
    "sarcoidosis",
)


def picked(choices: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` different choices, the earlier ones more often: their weights fall as 1 / (place + 2)."""
    weights = 1 / np.arange(2, len(choices) + 2)
    order = rng.choice(len(choices), size=count, replace=False, p=weights / weights.sum())
    return [choices[place] for place in order]


def illness(rng: np.random.Generator) -> Illness:
    """One illness; the last ones are rare."""
    weights = 1 / np.arange(2, len(ILLNESSES) + 2)
    return ILLNESSES[int(rng.choice(len(ILLNESSES), p=weights / weights.sum()))]


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: int, unit: str) -> str:
    """``1 day``, ``2 days``."""
    return f"{number} {unit}{'' if number == 1 else 's'}"
