"""One module per DVC stage, each with a function `run(study)` that loads, calls pure functions and saves."""

STAGES = ("convert", "cohort", "splits", "baseline", "poison", "train", "evaluate", "detect", "report")
"""The stages after `plugins`, in the order of the pipeline."""
