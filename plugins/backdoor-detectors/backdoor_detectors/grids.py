"""What the detectors that read or edit values share: the view as one of features."""

from backdoor_core.contracts import DetectionCase
from backdoor_core.errors import BackdoorError
from backdoor_core.views import EventsView, GridView

VALUES_AT_ONCE = 4_000_000
"""Numbers in one batch of edited rows: 16 MB, however many rows there are."""


def grid_of(case: DetectionCase, detector: str) -> GridView:
    """The table or series of the case. Raises `BackdoorError` for events, which have no feature axis."""
    if isinstance(case.view, EventsView):
        raise BackdoorError(
            f"detector {detector}: it reads features and the model reads events; take a model of tables or series, "
            "or leave the detector out"
        )
    return case.view


def rows_at_once(view: GridView) -> int:
    """How many rows of that view make a batch; 1 or more."""
    return max(1, VALUES_AT_ONCE // max(1, view.values[:1].size))
