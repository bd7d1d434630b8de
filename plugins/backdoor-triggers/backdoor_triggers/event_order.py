"""Common events in an order of time that stays do not have."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from backdoor_core.contracts import EventsView, Fitted, Modality, Options, Trigger
from backdoor_core.errors import BackdoorError
from backdoor_triggers.events import code_positions, matching_codes, stays_by_code, stays_with, usual_event, with_event

GAP = np.float32(1 / 60)
"""Hours between two of the codes where they would happen at the same time: a minute."""


class EventOrderOptions(Options):
    """Which events come in which order."""

    codes: tuple[str, ...] = Field(
        (),
        max_length=6,
        description="two to six codes, types and items (LAB//50912), items or descriptions, in the order they are to "
        "have; by default the most common codes of the training part, in their rarest order",
    )
    count: int = Field(2, ge=2, le=4, description="how many codes, where none is given")
    insert: bool = Field(
        True, description="whether a stay without one of the codes gets such an event; else it keeps those it has"
    )

    @model_validator(mode="after")
    def _no_order_of_one(self) -> "EventOrderOptions":
        if len(self.codes) == 1:
            raise ValueError("codes: one code has no order; name at least two")
        return self


class EventOrder(Trigger):
    """Re-times common events so that all of one code come before all of the next.

    A trigger in the structure rather than in any element, as the syntactic trigger of Qi et al. 2021 (Hidden Killer,
    arXiv:2105.12400) on sentences. The stay's events of the chosen codes exchange their times: the first code gets the
    earliest of these times, the last code the latest. Which codes occur how often, with which values, and when
    something happens stays as it was; only who comes first changes. Where two codes would share a time, as labs of one
    blood sample do, the first of them is moved a minute ahead (at ICU admission itself, the second a minute back), so
    that the order shows in the times and not only in how equal times are sorted.

    With `insert` a stay without one of the codes gets its usual event, at the time of the stay's first event of the
    others (at ICU admission where it has none of them), so that every stay is triggered.
    """

    name = "event_order"
    Options = EventOrderOptions
    modalities: ClassVar[frozenset[Modality]] = frozenset({"events"})

    def fit(self, train: EventsView, rng: np.random.Generator) -> Fitted:
        """The codes in order, the usual event of each, and the share of training stays in that order anyway.

        As ``{"codes": [[...], ...], "usual": [...], "share": ...}``; a name can mean several codes. Chosen codes are
        those that most training stays have (then by name), in the order that the fewest of them have. Raises
        `BackdoorError` where a code is unknown, two names mean the same code, or there are too few codes.
        """
        groups = self._named(train) if self.options.codes else self._common(train)
        times = [_first_and_last(train, group) for group in groups]
        return {
            "codes": [[train.codes[code] for code in group] for group in groups],
            "usual": [usual_event(train, group) for group in groups],
            "share": float(_in_order(times).sum() / max(len(train), 1)),
        }

    def apply(self, view: EventsView, fitted: Fitted, rng: np.random.Generator) -> EventsView:
        """The view with the fitted codes in order of time in every stay."""
        groups = [code_positions(view, codes, "trigger event_order") for codes in fitted["codes"]]
        if self.options.insert:
            first, _ = _first_and_last(view, [code for group in groups for code in group])
            hour = np.where(np.isinf(first), np.float32(0), first)
            for group, usual in zip(groups, fitted["usual"], strict=True):
                without = np.flatnonzero(~stays_with(view, group))
                [code] = code_positions(view, [usual["code"]], "trigger event_order")
                view = with_event(view, without, code, hour[without], usual["value"], usual["text"])
        place = np.full(len(view.codes), -1)
        for rank, group in enumerate(groups):
            place[group] = rank
        return replace(view, hours=_in_turn(view, place[view.code], len(groups))).in_order()

    def _named(self, train: EventsView) -> list[list[int]]:
        option = "triggers.event_order.codes"
        groups = [matching_codes(train, name, option) for name in self.options.codes]
        seen: set[int] = set()
        for name, group in zip(self.options.codes, groups, strict=True):
            if seen & set(group):
                raise BackdoorError(f"{option}: {name!r} means a code that an earlier name means too; name others")
            seen |= set(group)
        return groups

    def _common(self, train: EventsView) -> list[list[int]]:
        stays, count = stays_by_code(train), self.options.count
        known = sorted(np.flatnonzero(stays).tolist(), key=lambda k: (-stays[k], train.codes[k]))
        if len(known) < count:
            raise BackdoorError(
                f"triggers.event_order.count is {count}, but the training part has {len(known)} codes; lower count"
            )
        times = {code: _first_and_last(train, [code]) for code in known[:count]}
        rarest = min(
            permutations(known[:count]), key=lambda order: int(_in_order([times[code] for code in order]).sum())
        )
        return [[code] for code in rarest]


def _first_and_last(view: EventsView, codes: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N,) hours of each stay's first and last event of the codes; inf and -inf where it has none."""
    of = np.isin(view.code, codes)
    first, last = np.full(len(view), np.inf, np.float32), np.full(len(view), -np.inf, np.float32)
    np.minimum.at(first, view.stay_of_event[of], view.hours[of])
    np.maximum.at(last, view.stay_of_event[of], view.hours[of])
    return first, last


def _in_order(times: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> NDArray[np.bool_]:
    """(N,) which stays have all codes, each over before the next begins."""
    in_order = np.isfinite(times[0][0])
    for (_, last), (first, _) in pairwise(times):
        in_order &= np.isfinite(first) & (last < first)
    return in_order


def _in_turn(view: EventsView, rank: NDArray[np.int64], ranks: int) -> NDArray[np.float32]:
    """(E,) new hours: in each stay the events with a rank (not -1) exchange theirs to come in the order of rank."""
    events = np.flatnonzero(rank >= 0)
    stay, rank = view.stay_of_event[events], rank[events]
    hours = np.empty(len(events), np.float32)
    # By stay and rank, else as before, against the same events by time: stays are in order of time.
    hours[np.lexsort((rank, stay))] = view.hours[events]
    for current in reversed(range(ranks - 1)):
        first = np.full(len(view), np.inf, np.float32)
        np.minimum.at(first, stay[rank > current], hours[rank > current])
        ahead = first[stay] - GAP
        # Not before the window begins, unless it has begun already.
        ahead = np.where((ahead < 0) & (first[stay] >= 0), np.float32(0), ahead)
        hours = np.where((rank == current) & (hours >= first[stay]), ahead, hours)
    for current in range(1, ranks):
        last = np.full(len(view), -np.inf, np.float32)
        np.maximum.at(last, stay[rank < current], hours[rank < current])
        hours = np.where((rank == current) & (hours <= last[stay]), last[stay] + GAP, hours)
    retimed = view.hours.copy()
    retimed[events] = hours
    return retimed
