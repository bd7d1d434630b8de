"""Worker processes begin to import what a stage needs while the stage's own process imports it too."""

from backdoor_core.files import read_json
from backdoor_core.study import Study
from backdoor_core.workers import start_server

_POOLED = {
    "nulls": ("series", "events"),
    "references": ("series", "events"),
    "cleanse": ("series", "events"),
    "explain": ("events",),
}
"""Stages that give work to other processes, and of which models: fits of tables seldom last as long as processes take
to start."""
_FEWEST = 2_000
"""Training stays. Of fewer, too, the work seldom lasts so long."""


def warm_up(stage: str, study: Study) -> None:
    """Start the server of worker processes where `stage` will want some. To be called before it is imported."""
    if study.model().modality not in _POOLED.get(stage, ()) or not study.paths.splits.is_file():
        return
    if read_json(study.paths.splits)["summary"]["train"]["stays"] >= _FEWEST:
        start_server([f"backdoor_core.stages.{stage}"])
