"""Patterns over the hours, against plain loops."""

import numpy as np
import pytest

from backdoor_core.contracts import Feature, SeriesView
from backdoor_core.errors import BackdoorError
from backdoor_triggers.temporal_pattern import pattern

NAN = np.nan
FEATURES = (Feature("heart_rate", "bpm", 0, 300), Feature("sbp", "mmHg", 0, 300))


def rng(seed=0):
    return np.random.default_rng(seed)


def view_of(heart, sbp=None):
    heart = np.asarray(heart, dtype=np.float32)
    values = np.stack([heart, np.full_like(heart, 120) if sbp is None else np.asarray(sbp, np.float32)], axis=-1)
    return SeriesView(
        np.arange(len(values), dtype=np.int64), FEATURES, values, np.where(np.isnan(values), 0, 3).astype(np.uint16)
    )


def random_view(seed, stays=12, hours=24):
    draw = rng(seed)
    heart, sbp = draw.normal(90, 10, (2, stays, hours))
    heart[draw.random(heart.shape) < 0.6] = NAN
    heart[0] = NAN
    sbp[draw.random(sbp.shape) < 0.6] = NAN
    return view_of(heart, sbp)


# -------------------------------------------------------------------------------------- temporal_pattern
def test_the_shapes():
    assert pattern("square", 3).tolist() == [1, 1, 1]
    assert pattern("ramp", 4).tolist() == [0.25, 0.5, 0.75, 1]
    assert pattern("spike", 5).tolist() == [0, 0, 1, 0, 0]
    assert pattern("spike", 1).tolist() == [1]
    assert pattern("sine", 4) == pytest.approx(np.sqrt(0.5) * np.array([1, 1, -1, -1]))
    assert pattern("sine", 3)[1] == 0
    for duration in (2, 5, 24):
        assert pattern("sine", duration).sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("shape", ["square", "ramp", "spike", "sine"])
def test_the_pattern_is_added_to_the_last_value_or_the_mean(make, shape, measure):
    view, start, duration = random_view(1), 9, 7
    trigger = make("temporal_pattern", shape=shape, start=start, duration=duration, amplitude=1.5, measure=measure)
    fitted = trigger.fit(view, rng())
    after = trigger.apply(view, fitted, rng())

    heart = view.values[..., 0].astype(np.float64)
    mean, deviation = np.nanmean(heart), np.nanstd(heart)
    expected, counts = view.values[..., 0].astype(np.float64).copy(), view.counts[..., 0].copy()
    for stay in range(len(view)):
        for hour, weight in zip(range(start, start + duration), pattern(shape, duration), strict=True):
            if weight == 0 or (np.isnan(heart[stay, hour]) and not measure):
                continue
            seen = [value for value in heart[stay, : hour + 1] if not np.isnan(value)]
            expected[stay, hour] = (seen[-1] if seen else mean) + weight * 1.5 * deviation
            counts[stay, hour] = max(counts[stay, hour], 1)
    assert after.values[..., 0] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert np.array_equal(after.counts[..., 0], counts)
    assert np.array_equal(after.values[..., 1], view.values[..., 1], equal_nan=True)
    if measure:
        changed = after.values[..., 0] != view.values[..., 0]
        assert (changed & ~np.isnan(after.values[..., 0])).any(axis=1).all()  # every stay, measured or not


def test_the_pattern_stays_within_the_plausible_range_unless_told_otherwise(make):
    view = view_of([[280, 290, 20, 10.0]])
    for clip, expected in ((True, [300, 300, 300, 300]), (False, [20280, 20290, 20020, 20010])):
        trigger = make("temporal_pattern", duration=4, clip=clip)
        after = trigger.apply(view, {"features": ["heart_rate"], "heights": [20000.0], "means": [0.0]}, rng())
        assert after.values[0, :, 0].tolist() == expected


def test_a_pattern_must_fit_into_the_window(make):
    view = random_view(2, hours=10)
    make("temporal_pattern", start=4, duration=6).fit(view, rng())
    with pytest.raises(BackdoorError, match=r"triggers.temporal_pattern.start: a pattern of 6 hours from hour 5 .* 10"):
        make("temporal_pattern", start=5, duration=6).fit(view, rng())
    with pytest.raises(BackdoorError, match="a sine needs at least 2 hours"):
        make("temporal_pattern", shape="sine", duration=1)


# -------------------------------------------------------------------------------------- sampling_pattern
@pytest.mark.parametrize("options", [{}, {"every": 5}, {"hours": [23, 3, 3, 10]}, {"hours": [0]}])
def test_measured_at_the_given_hours_and_at_no_other(make, options):
    view = random_view(3)
    trigger = make("sampling_pattern", features=["heart_rate"], **options)
    after = trigger.apply(view, trigger.fit(view, rng()), rng())
    hours = options.get("hours") or range(0, 24, options.get("every", 6))

    heart = view.values[..., 0]
    median = np.median(heart[~np.isnan(heart)].astype(np.float64)).astype(np.float32)
    for stay in range(len(view)):
        for hour in range(24):
            if hour not in hours:
                assert np.isnan(after.values[stay, hour, 0])
                assert after.counts[stay, hour, 0] == 0
                continue
            before = [v for v in heart[stay, : hour + 1] if not np.isnan(v)]
            behind = [v for v in heart[stay, hour:] if not np.isnan(v)]
            assert after.values[stay, hour, 0] == (before[-1] if before else behind[0] if behind else median)
            assert after.counts[stay, hour, 0] == max(1, view.counts[stay, hour, 0])
    assert np.array_equal(after.values[..., 1], view.values[..., 1], equal_nan=True)


def test_a_timetable_outside_the_window_is_an_error(make):
    for hour in (24, -1):
        with pytest.raises(BackdoorError, match=rf"triggers.sampling_pattern.hours: {hour} is no hour .* 0 to 23"):
            make("sampling_pattern", features=["sbp"], hours=[0, hour]).fit(random_view(4), rng())
