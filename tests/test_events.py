import json
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

import backdoor_core.cohort.events as events_module
from backdoor_core.cohort.events import CODES, EVENT_ORDER, EVENTS, LABELS, read_meds, write_meds
from backdoor_core.errors import BackdoorError

START = datetime(2150, 1, 1, 12)
STAYS = {30: (1, START), 10: (1, START + timedelta(days=9)), 20: (2, START + timedelta(hours=5))}
"""stay_id -> subject, admission. The stays of subject 1 are not in the order of time."""
CODE_ROWS = [
    {"code": "LAB//50912//mg/dL", "description": "Creatinine in blood", "parent_codes": ["LOINC/2160-0"]},
    {"code": "PROCEDURE//225459", "description": None, "parent_codes": None},
]


def event(stay, hours, code="LAB//50912//mg/dL", value=None, text=None):
    subject, start = STAYS[stay]
    return {
        "subject_id": subject,
        "time": start + timedelta(hours=hours),
        "code": code,
        "numeric_value": value,
        "text_value": text,
        "hadm_id": None,
        "stay_id": stay,
        "unit": "mg/dL" if value else None,
    }


ROWS = [
    event(30, 1.5, value=1.25),
    event(30, 1.5, code="PROCEDURE//225459", text="left"),
    event(30, 23, code="INGREDIENT//1", value=3.0),
    event(10, 0, value=0.5),
]


def tables(rows=ROWS, stays=STAYS, window=24):
    rows = sorted(rows, key=lambda row: (row["subject_id"], row["time"], row["stay_id"], row["code"]))
    labels = [
        {
            "subject_id": subject,
            "prediction_time": start + timedelta(hours=window),
            "boolean_value": stay == 20,
            "stay_id": stay,
        }
        for stay, (subject, start) in stays.items()
    ]
    return {
        "events": pa.Table.from_pylist(rows, EVENTS),
        "codes": pa.Table.from_pylist(CODE_ROWS, CODES),
        "labels": pa.Table.from_pylist(labels, LABELS),
    }


def write(folder, given):
    write_meds(folder, **given, dataset_name="test", dataset_version="1")
    return folder


def times(stays):
    return np.array([STAYS[stay][1] for stay in stays], "datetime64[us]")


def read(folder, stays=(10, 20, 30), **more):
    return read_meds(folder, np.array(stays), times(stays), **more)


def test_round_trip(tmp_path):
    view = read(write(tmp_path, tables()))
    assert view.stay_id.tolist() == [10, 20, 30]
    assert view.offsets.tolist() == [0, 1, 1, 4]
    assert view.codes == ("INGREDIENT//1", "LAB//50912//mg/dL", "PROCEDURE//225459")
    assert view.descriptions == ("INGREDIENT//1", "Creatinine in blood", "PROCEDURE//225459")
    assert [view.codes[c].split("//")[0] for c in view.code] == ["LAB", "LAB", "PROCEDURE", "INGREDIENT"]
    assert view.hours.tolist() == [0, 1.5, 1.5, 23]
    np.testing.assert_array_equal(view.value, np.float32([0.5, 1.25, np.nan, 3]))
    assert view.text.tolist() == ["", "", "left", ""]
    assert (view.code.dtype, view.hours.dtype, view.value.dtype) == (np.int32, np.float32, np.float32)


def test_minutes_to_discharge(tmp_path):
    stays = (30, 20, 10)
    write(tmp_path, tables())
    view = read(tmp_path, stays, outtime=times(stays) + np.timedelta64(30, "h"), relative_to="discharge")
    assert view.hours.tolist() == [28.5 * 60, 28.5 * 60, 7 * 60, 30 * 60]
    with pytest.raises(ValueError, match="needs outtime"):
        read(tmp_path, stays, relative_to="discharge")


def test_official_schemas(tmp_path):
    meds = pytest.importorskip("meds", reason="the package meds is not installed")
    write(tmp_path, tables())
    meds.DataSchema.validate(pq.read_table(tmp_path / meds.data_subdirectory / "0.parquet"))
    meds.LabelSchema.validate(pq.read_table(tmp_path / "labels.parquet"))
    codes = pq.read_table(tmp_path / meds.code_metadata_filepath)
    meds.CodeMetadataSchema.validate(codes)
    assert set(codes["code"].to_pylist()) >= {row["code"] for row in ROWS}
    meds.DatasetMetadataSchema.validate(json.loads((tmp_path / meds.dataset_metadata_filepath).read_text()))


def test_labels_and_their_stays_are_in_one_order(tmp_path):
    write(tmp_path, tables())
    labels, stays = pq.read_table(tmp_path / "labels.parquet"), pq.read_table(tmp_path / "metadata" / "stays.parquet")
    assert labels.column_names == ["subject_id", "prediction_time", "boolean_value"]
    assert stays["stay_id"].to_pylist() == [30, 10, 20]
    assert labels["boolean_value"].to_pylist() == [False, False, True]
    assert stays["prediction_time"] == labels["prediction_time"]


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 5))
def test_pieces_do_not_matter(tmp_path_factory, sizes, group):
    """A reader in any pieces gives the bytes of the table, and the row groups do not change what is read."""
    given_tables = tables()
    table, rest = given_tables["events"], given_tables
    pieces, start = [], 0
    for size in [*sizes, table.num_rows]:
        pieces += table.slice(start, size).to_batches() or [pa.RecordBatch.from_pylist([], EVENTS)]
        start = min(start + size, table.num_rows)
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "_ROW_GROUP", group)
        write(whole, given_tables)
        write(parts, {**rest, "events": pa.RecordBatchReader.from_batches(EVENTS, pieces)})
    assert bytes_of(whole) == bytes_of(parts)
    assert read(parts).hours.tolist() == [0, 1.5, 1.5, 23]


def test_no_event_at_all(tmp_path):
    view = read(write(tmp_path, tables([])))
    assert view.offsets.tolist() == [0, 0, 0, 0]
    assert (len(view.code), len(view.text), view.codes) == (0, 0, ())


def test_other_widths_are_cast(tmp_path):
    given_tables = tables()
    table = given_tables["events"]
    wider = pa.schema(
        [
            ("text_value", pa.string()),
            ("subject_id", pa.int32()),
            ("time", pa.timestamp("s")),
            ("code", pa.dictionary(pa.int8(), pa.string())),
            ("numeric_value", pa.float64()),
            ("hadm_id", pa.null()),
            ("stay_id", pa.int64()),
            ("unit", pa.large_string()),
        ]
    )
    recast = pa.table({f.name: pa.array(table[f.name].to_pylist(), f.type) for f in wider})
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, given_tables)
    write(two, {**given_tables, "events": recast})
    assert bytes_of(one) == bytes_of(two)


def replaced(table, column, values, type_=None):
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, type_ or table.schema.field(column).type))


LATE = [*ROWS, event(20, 25)]
BROKEN = {
    "a missing column": ("events", lambda t: t.drop_columns(["unit"]), r"0\.parquet: column unit is missing"),
    "a wrong type": (
        "events",
        lambda t: replaced(t, "numeric_value", ["a"] * 4, pa.string()),
        r"0\.parquet: column numeric_value is string; expected float",
    ),
    "a zone": (
        "events",
        lambda t: replaced(t, "time", t["time"].to_pylist(), pa.timestamp("us", "UTC")),
        r"column time is timestamp\[us, tz=UTC\]; expected timestamp\[us\]",
    ),
    "an empty code": (
        "events",
        lambda t: replaced(t, "code", [None, *["a"] * 3]),
        r"column code has 1 empty cells; expected none",
    ),
    "an infinite value": (
        "events",
        lambda t: replaced(t, "numeric_value", [np.inf, 1, 2, 3]),
        "column numeric_value holds an infinite value",
    ),
    "time backwards": ("events", lambda t: t.take([3, 0, 1, 2]), "column time of subject_id 1 is not in order"),
    "a stay of nobody": (
        "events",
        lambda t: replaced(t, "stay_id", [30, 30, 30, 99]),
        "column stay_id holds 99, which is no stay of the cohort",
    ),
    "an event too late": (
        "events",
        lambda t: tables(LATE)["events"],
        r"column time: 1 events lie after the prediction time of their stay, such as stay_id 20",
    ),
    "a label twice": (
        "labels",
        lambda t: pa.concat_tables([t, t]),
        r"labels\.parquet: column stay_id holds a value twice",
    ),
    "no label": (
        "labels",
        lambda t: replaced(t, "boolean_value", [True, None, False]),
        r"labels\.parquet: column boolean_value has 1 empty cells",
    ),
    "a code twice": ("codes", lambda t: pa.concat_tables([t, t]), r"codes\.parquet: column code holds a value twice"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken(tmp_path, name):
    which, change, message = BROKEN[name]
    given_tables = tables()
    given_tables[which] = change(given_tables[which])
    with pytest.raises(BackdoorError, match=message) as caught:
        write(tmp_path, given_tables)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.partial"))


def test_subjects_out_of_order(tmp_path):
    given_tables = tables([*ROWS, event(20, 1)])
    given_tables["events"] = given_tables["events"].take([4, 0, 1, 2, 3])
    with pytest.raises(
        BackdoorError, match="column subject_id is not in order; expected the events by " + EVENT_ORDER[0]
    ):
        write(tmp_path, given_tables)


def test_a_stay_of_another_subject(tmp_path):
    given_tables = tables([event(20, 1)])
    given_tables["events"] = replaced(given_tables["events"], "subject_id", [1])
    with pytest.raises(BackdoorError, match="column subject_id: stay_id 20 is of another subject"):
        write(tmp_path, given_tables)


def test_order_across_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_ROW_GROUP", 1)
    given_tables = tables()
    given_tables["events"] = given_tables["events"].take([3, 0, 1, 2])
    with pytest.raises(BackdoorError, match="column time of subject_id 1 is not in order"):
        write(tmp_path, given_tables)


def test_reading_what_is_broken(tmp_path):
    write(tmp_path, tables([*ROWS, event(20, 1)]))
    data = tmp_path / "data" / "0.parquet"
    table = pq.read_table(data)
    with pytest.raises(BackdoorError, match="stay_id holds 20, which is no stay of the cohort"):
        read(tmp_path, (10, 30))
    pq.write_table(table.take([0, 1, 4, 2, 3]), data)
    with pytest.raises(BackdoorError, match=r"0\.parquet: column subject_id: the events of a subject are apart"):
        read(tmp_path)
    pq.write_table(table.slice(0, 2), data)
    pq.write_table(table.slice(2), data.with_name("1.parquet"))
    with pytest.raises(BackdoorError, match=r"1\.parquet: column subject_id: the events of a subject are apart"):
        read(tmp_path)
    pq.write_table(table.slice(0, 4), data)
    pq.write_table(table.slice(4), data.with_name("1.parquet"))
    assert read(tmp_path).offsets.tolist() == [0, 1, 2, 5]
    pq.write_table(table.drop_columns(["stay_id"]), data)
    with pytest.raises(BackdoorError, match=r"0\.parquet: column stay_id is missing"):
        read(tmp_path)
    data.write_bytes(b"PAR1 nothing")
    with pytest.raises(BackdoorError, match=r"0\.parquet: not a readable Parquet file"):
        read(tmp_path)
    (tmp_path / "metadata" / "codes.parquet").unlink()
    pq.write_table(table, data)
    data.with_name("1.parquet").unlink()
    with pytest.raises(BackdoorError, match=r"codes\.parquet: no such file"):
        read(tmp_path)
    data.unlink()
    with pytest.raises(BackdoorError, match="no Parquet file in it"):
        read(tmp_path)
