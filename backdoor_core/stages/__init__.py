"""One module per DVC stage, each with a function `run(study)` that loads, calls pure functions and saves."""

STAGES = (
    "convert",
    "cohort",
    "splits",
    "baseline",
    "nulls",
    "null_scores",
    "references",
    "poison",
    "train",
    "evaluate",
    "detect",
    "cleanse",
    "explain",
    "audit",
    "notes",
    "finetune",
    "note_references",
    "leakage",
    "report",
)
"""The stages after `plugins`, in the order of the pipeline."""
