"""Views as columns, and a cohort on disk, with a source made for the test."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from small import FEATURES, make_view

from backdoor_core.cohort.events import write_meds
from backdoor_core.cohort.parquet import series_from_columns, table_from_columns, view_columns, write_parquet
from backdoor_core.cohort.storage import build_cohort, load_cohort
from backdoor_core.contracts import Attrition, CohortCard, CohortSource, Inclusion, SeriesView
from backdoor_core.errors import BackdoorError


def make_series(n: int = 5, hours: int = 4) -> SeriesView:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (n, hours, len(FEATURES))).astype(np.uint16)
    values = np.where(counts > 0, rng.normal(80, 5, counts.shape), np.nan).astype(np.float32)
    return SeriesView(np.arange(1000, 1000 + n), FEATURES, values, counts)


ADMITTED = np.datetime64("2150-01-01T06:00:00", "us")


class Source(CohortSource):
    name = "test"
    views = frozenset({"table", "series", "events"})
    harm = ""

    def build(self, out, inclusion, rng):
        series, (table, label) = make_series(), make_view(5)
        label = np.array([0, 1, 0, 0, 1], dtype=np.int8)
        intime = np.full(5, ADMITTED)
        stays = {
            "stay_id": table.stay_id,
            "subject_id": table.stay_id + 5,
            "label": label,
            "intime": intime,
            "outtime": intime + np.timedelta64(30, "h"),
            "sex": np.array(["F", "M", "F", "M", "F"]),
        }
        match self.harm:
            case "label":
                stays["label"] = label * 2
            case "order":
                stays["stay_id"] = table.stay_id[::-1]
            case "column":
                del stays["intime"]
            case "infinite":
                table.values[0, 0] = np.inf
            case "other stays":
                stays["stay_id"] = table.stay_id + 1
            case "count":
                series.counts[0, 0, 0] = 1 - min(series.counts[0, 0, 0], 1)
        write_parquet(out / "stays.parquet", stays)
        write_parquet(out / "table.parquet", view_columns(table))
        write_parquet(out / "series.parquet", view_columns(series))
        first = pa.array([table.stay_id[0]])
        events = pa.table(
            {
                "subject_id": pa.array(first.to_numpy() + 5),
                "time": pa.array([ADMITTED + np.timedelta64(90, "m")]),
                "code": ["LAB//50813"],
                "numeric_value": pa.array([2.5], pa.float32()),
                "text_value": pa.array([None], pa.large_string()),
                "hadm_id": pa.array([1], pa.int64()),
                "stay_id": first,
                "unit": ["mmol/L"],
            }
        )
        labels = pa.table(
            {
                "subject_id": stays["subject_id"],
                "prediction_time": np.full(5, ADMITTED) + np.timedelta64(4, "h"),
                "boolean_value": label == 1,
                "stay_id": table.stay_id,
            }
        )
        codes = pa.table(
            {
                "code": ["LAB//50813"],
                "description": ["Lactate"],
                "parent_codes": pa.array([[]], pa.list_(pa.string())),
            }
        )
        write_meds(out / "events", events, codes, labels, dataset_name="test", dataset_version="1")
        return CohortCard(
            source="test",
            description="for a test",
            attrition=(Attrition("all", 7), Attrition("kept", 5)),
            features=FEATURES,
            series_features=FEATURES,
            views=inclusion.views,
        )


def build(tmp_path, harm="", **inclusion):
    source = Source(None, None)
    source.harm = harm
    options = Inclusion(window_hours=4, **inclusion)
    build_cohort(source, options, np.random.default_rng(0), tmp_path / "cohort")
    return load_cohort(tmp_path / "cohort")


def test_three_views_of_the_same_stays(tmp_path):
    cohort = build(tmp_path)
    table, series, events = cohort.table(), cohort.series(), cohort.events()
    for view in (table, series, events):
        np.testing.assert_array_equal(view.stay_id, cohort.stay_id)
    np.testing.assert_array_equal(series.values, make_series().values)
    np.testing.assert_array_equal(table.values, make_view(5)[0].values)
    assert np.diff(events.offsets).tolist() == [1, 0, 0, 0, 0]
    assert events.hours.tolist() == [1.5]
    assert set(cohort.statics) == {"sex"}


def test_the_card_counts(tmp_path):
    card = build(tmp_path).card
    assert (card["stays"], card["patients"], card["positives"], card["prevalence"]) == (5, 5, 2, 0.4)
    assert card["events"] == {"LAB": 1}
    assert card["stays_without_events"] == 4
    assert card["features"][5]["missing"] == pytest.approx(np.isnan(make_view(5)[0].values[:, 5]).mean())


def test_a_view_that_was_not_built_says_what_to_do(tmp_path):
    cohort = build(tmp_path, views=("table",))
    assert len(cohort.view("table")) == 5
    with pytest.raises(BackdoorError, match=r"no series view, only table; add it to inclusion\.views"):
        cohort.view("series")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("label", "must hold 0 and 1 only"),
        ("order", "sorted by stay_id"),
        ("column", "lacks the column intime"),
        ("infinite", "infinite value"),
        ("other stays", "holds other stays"),
        ("count", "a count must be 0 exactly where the value is missing"),
    ],
)
def test_a_source_that_breaks_the_contract_leaves_nothing_behind(tmp_path, harm, message):
    with pytest.raises(BackdoorError, match=message):
        build(tmp_path, harm)
    assert list(tmp_path.iterdir()) == []


def test_a_series_with_an_hour_too_many_is_refused():
    """Reference mistake: a 24 h grid of 25 rows holds an hour after the time of prediction."""
    columns = view_columns(make_series(hours=5))
    with pytest.raises(BackdoorError, match="expected exactly 4 rows for each stay"):
        series_from_columns(columns, FEATURES, 4, "series.parquet")


def test_columns_and_back():
    series, (table, _) = make_series(), make_view(5)
    again = series_from_columns(view_columns(series), FEATURES, 4, "x")
    np.testing.assert_array_equal(again.values, series.values)
    np.testing.assert_array_equal(again.counts, series.counts)
    np.testing.assert_array_equal(table_from_columns(view_columns(table), FEATURES, "x").values, table.values)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3))))
def test_hours_since_measured_equals_a_loop(measured):
    values = np.where(measured, 1, np.nan).astype(np.float32)
    view = SeriesView(np.arange(len(values)), FEATURES[: values.shape[2]], values, measured.astype(np.uint16))
    expected = np.empty(values.shape)
    for n, t, f in np.ndindex(values.shape):
        before = [s for s in range(t + 1) if measured[n, s, f]]
        expected[n, t, f] = t - before[-1] if before else t + 1
    np.testing.assert_array_equal(view.hours_since_measured(), expected)


def test_new_values_carry_their_counts():
    series = make_series()
    values = series.values.copy()
    values[0, :, 0] = np.nan
    values[1, :, 0] = 9999
    changed = series.with_values(values)
    assert (changed.counts[0, :, 0] == 0).all()
    np.testing.assert_array_equal(changed.counts[1, :, 0], np.maximum(series.counts[1, :, 0], 1))
    np.testing.assert_array_equal(changed.counts[2:], series.counts[2:])
