"""Features of a view by name, with an error for the user where there is no such feature."""

from collections.abc import Iterable

from backdoor_core.contracts import View
from backdoor_core.errors import BackdoorError


def feature_positions(view: View, features: Iterable[str | int], option: str) -> list[int]:
    """Positions on the last axis of `view.values`. Raises `BackdoorError` naming the option and the known features."""
    try:
        return [view.feature_index(feature) for feature in features]
    except KeyError as error:
        raise BackdoorError(f"{option}: {error.args[0]}") from None
