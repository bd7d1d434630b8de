from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.meds import Meds
from backdoor_core.cohort.events import CODES, read_meds
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError

END = datetime(2150, 1, 10, 12)
DATA = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("time", pa.timestamp("us")),
        ("code", pa.string()),
        ("numeric_value", pa.float32()),
        ("text_value", pa.large_string()),
    ]
)
BORN = datetime(2100, 1, 9, 11)


def row(subject, hours, code="HR//bpm", value=None, text=None, time=None):
    """An event `hours` before END."""
    time = END - timedelta(hours=hours) if time is None else time
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": value, "text_value": text}


EVENTS = [
    {**row(1, 0, "GENDER//F"), "time": None},
    row(1, 0, "MEDS_BIRTH", time=BORN),
    row(1, 24.5, value=10.0),  # before the window
    row(1, 24, value=80.0),
    row(1, 12, value=100.0),
    row(1, 12, "HR2", value=999.0),  # not plausible
    row(1, 6, "DIET", text="nil by mouth"),
    row(1, 0, value=120.0),  # at the prediction time
    row(1, -1, value=300.0),
    row(2, 0, "MEDS_BIRTH", time=BORN),
    row(2, 1, "HR2", value=70.0),
    row(2, 1, "URINE", value=300.0),
    row(2, 2, "URINE", value=150.0),
    row(2, -5, "MEDS_DEATH"),
    row(3, 0, "MEDS_BIRTH", time=BORN + timedelta(days=365 * 40)),
    row(3, 1, value=60.0),
    row(4, 0, "MEDS_BIRTH", time=BORN),
    row(4, 3, value=50.0),
    row(4, 2, "MEDS_DEATH//DOD"),
]
LABELS = [
    {"subject_id": 2, "prediction_time": END, "boolean_value": True},
    {"subject_id": 1, "prediction_time": END, "boolean_value": False},
    {"subject_id": 1, "prediction_time": END - timedelta(hours=23), "boolean_value": False},
    {"subject_id": 3, "prediction_time": END, "boolean_value": False},
    {"subject_id": 4, "prediction_time": END, "boolean_value": True},
]
MAP = {"urine_output": ["URINE"], "heart_rate": ["HR//bpm", "HR2"]}


def write(root, events=EVENTS, labels=LABELS, schema=DATA, shards=1):
    events = sorted(events, key=lambda e: (e["subject_id"], e["time"] or datetime.min))
    for shard in range(shards):
        path = root / "set" / "data" / "train" / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([e for e in events if e["subject_id"] % shards == shard], schema), path)
    codes = [{"code": "HR//bpm", "description": "Heart rate"}, {"code": "NEVER", "description": "never seen"}]
    (root / "set" / "metadata").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(codes, CODES), root / "set" / "metadata" / "codes.parquet")
    table = pa.Table.from_pylist(labels)
    pq.write_table(table, root / "labels.parquet")
    return root


def source(root, **options):
    return Meds(Meds.Options(**{"path": "set", "labels": "labels.parquet", **options}), Context(root))


@pytest.fixture
def build(tmp_path, new_out):
    def make(out="out", inclusion=None, write_first=True, **options):
        if write_first:
            write(tmp_path)
        folder = new_out(out)
        card = source(tmp_path, **options).build(folder, Inclusion(**(inclusion or {})), np.random.default_rng(0))
        return card, folder

    return make


def test_events(build):
    card, out = build()
    stays = pq.read_table(out / "stays.parquet").to_pydict()
    assert [step.stays for step in card.attrition] == [5, 4, 3]  # the child, the dead
    assert stays["stay_id"] == [1, 2, 3]
    assert stays["subject_id"] == [1, 1, 2]
    assert stays["label"] == [0, 0, 1]
    assert stays["age"] == [49, 50, 50]  # the birthday lies between the beginnings of the two windows
    assert stays["intime"][1] == END - timedelta(hours=24)
    assert stays["outtime"] == [None] * 3
    view = read_meds(out / "events", np.array(stays["stay_id"]), np.array(stays["intime"], "datetime64[us]"))
    # The window of stay 1 ends 23 h before that of stay 2: the event 24 h before END lies in both.
    assert view.offsets.tolist() == [0, 2, 7, 10]
    assert view.codes == ("DIET", "HR//bpm", "HR2", "URINE")
    assert view.descriptions == ("DIET", "Heart rate", "HR2", "URINE")
    assert view.hours.tolist() == [22.5, 23, 0, 12, 12, 18, 24, 22, 23, 23]
    assert view.text[5] == "nil by mouth"
    assert view.value[view.offsets[1]] == 80
    assert card.views == ("events",)
    assert not (out / "table.parquet").exists()
    assert pq.read_table(out / "events" / "metadata" / "codes.parquet")["code"].to_pylist() == list(view.codes)


def test_table(build):
    card, out = build(table=MAP)
    table = pq.read_table(out / "table.parquet")
    assert table.column_names == ["stay_id", "heart_rate", "urine_output"]
    np.testing.assert_array_equal(table["heart_rate"].to_numpy(), np.float32([45, 100, 70]))
    np.testing.assert_array_equal(table["urine_output"].to_numpy(), np.float32([np.nan, np.nan, 450]))
    assert [(f.name, f.unit, f.high) for f in card.features] == [
        ("heart_rate", "bpm", 300),
        ("urine_output", "mL", 20000),
    ]
    assert card.views == ("table", "events")
    card, out = build("second", {"views": ("table",), "window_hours": 1}, write_first=False, table=MAP)
    assert not (out / "events").exists()


def test_inclusion(build):
    card, out = build(inclusion={"first_stay_only": True, "min_age": 0})
    assert [step.stays for step in card.attrition] == [5, 5, 4, 3]
    assert pq.read_table(out / "stays.parquet")["stay_id"].to_pylist() == [1, 3, 4]


def test_without_births(tmp_path, build):
    write(tmp_path, [e for e in EVENTS if e["code"] != "MEDS_BIRTH"])
    card, out = build(write_first=False)
    assert [step.stays for step in card.attrition] == [5, 4]
    assert "min_age is not applied" in card.notes[-1]
    assert pq.read_table(out / "stays.parquet")["age"].null_count == 4


def test_stay_id_of_the_label_file(tmp_path, build):
    write(tmp_path, labels=[{**label, "stay_id": 100 - i} for i, label in enumerate(LABELS)])
    _, out = build(write_first=False, table=MAP)
    assert pq.read_table(out / "stays.parquet")["stay_id"].to_pylist() == [98, 99, 100]
    assert pq.read_table(out / "table.parquet")["heart_rate"].to_pylist() == [45, 100, 70]


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_shards_threads_and_order_of_labels_do_not_matter(tmp_path, new_out):
    outs = []
    for name, shards, threads, labels in (("a", 1, 1, LABELS), ("b", 3, 4, LABELS[::-1])):
        root = tmp_path / name
        root.mkdir()
        write(root, labels=labels, shards=shards)
        outs.append(new_out(f"out-{name}"))
        source(root, threads=threads, table=MAP).build(outs[-1], Inclusion(), np.random.default_rng(0))
    assert bytes_of(outs[0]) == bytes_of(outs[1])
    assert len(bytes_of(outs[0])) == 7


def test_what_it_writes_is_what_it_reads(tmp_path, build, new_out):
    """The events of a cohort are a MEDS dataset: read as a source with their own labels they come out the same."""
    rules = {"min_age": 0, "window_hours": 22}  # so that no event lies in two windows
    _, first = build(inclusion=rules)
    assert pq.read_table(first / "events" / "data" / "0.parquet").num_rows == 10
    again = source(tmp_path, path=str(first / "events"), labels=str(first / "events" / "labels.parquet"))
    second = new_out("second")
    again.build(second, Inclusion(**rules), np.random.default_rng(0))
    assert bytes_of(first / "events") == bytes_of(second / "events")


def other(name, type_):
    return pa.schema([field if field.name != name else pa.field(name, type_) for field in DATA])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"schema": DATA.remove(2)}, r"0\.parquet: column code is missing; expected subject_id, time, code"),
        ({"schema": other("time", pa.timestamp("us", "UTC"))}, r"column time is timestamp\[us, tz=UTC\]"),
        ({"events": [row(1, 1, None)]}, "column code is empty in 1 events"),
        ({"events": [row(1, 1, value=np.inf)]}, "column numeric_value is infinite in 1 events"),
        ({"events": [row(1, 100)]}, "no event lies in the window of a label"),
        ({"labels": [{**LABELS[0], "boolean_value": None}, LABELS[1]]}, "boolean_value has 1 empty cells"),
        ({"labels": [{**LABELS[0], "boolean_value": 1}]}, "column boolean_value is int64; expected bool"),
        ({"labels": LABELS[:1] * 2}, "column prediction_time: subject_id 2 has the same time twice"),
        ({"labels": [{**label, "stay_id": 1} for label in LABELS]}, "column stay_id holds a value twice"),
        ({"labels": [{"subject_id": 1}]}, r"labels\.parquet: column prediction_time is missing"),
    ],
)
def test_broken_data(tmp_path, build, written, message):
    write(tmp_path, **written)
    with pytest.raises(BackdoorError, match=message) as caught:
        build(write_first=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "nowhere/data: no such folder; expected a MEDS dataset"),
        ({"labels": "nowhere.parquet"}, r"nowhere\.parquet: no such file or folder"),
        ({"labels": "empty"}, "empty: no Parquet file in it; expected labels"),
        ({"table": {"pulse": ["HR"]}}, "cohorts.meds.table: unknown feature 'pulse'; known: heart_rate"),
        ({"table": {"heart_rate": []}}, "cohorts.meds.table.heart_rate: no code is given"),
        ({"table": {"heart_rate": ["PULSE"]}}, "no event in a window has the code 'PULSE'"),
        ({"inclusion": {"gap_hours": 1}}, "inclusion.gap_hours: a gap belongs into the label file; use 0"),
        ({"inclusion": {"visibility": "storetime"}}, "inclusion.visibility: MEDS has one time an event; use charttime"),
        ({"inclusion": {"features": "rich"}}, "inclusion.features: .* use core30"),
        ({"inclusion": {"views": ("table",)}}, r"table is asked for, but the source meds gives events \(map codes"),
        ({"inclusion": {"min_age": 120}}, "no label is left by the rule 'subject of 120 years"),
    ],
)
def test_broken_options(tmp_path, build, options, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackdoorError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def test_label_shards_and_inputs(tmp_path, build):
    write(tmp_path)
    folder = tmp_path / "shards"
    folder.mkdir()
    table = pq.read_table(tmp_path / "labels.parquet")
    pq.write_table(table.slice(0, 2), folder / "0.parquet")
    pq.write_table(table.slice(2), folder / "1.parquet")
    _, one = build("a", write_first=False)
    _, two = build("b", write_first=False, labels="shards")
    assert bytes_of(one) == bytes_of(two)
    assert source(tmp_path, labels="shards").inputs() == [
        tmp_path / "set" / "data" / "train" / "0.parquet",
        tmp_path / "set" / "metadata" / "codes.parquet",
        folder / "0.parquet",
        folder / "1.parquet",
    ]
    pq.write_table(table.append_column("stay_id", pa.array(range(5))), folder / "1.parquet")
    with pytest.raises(BackdoorError, match="column stay_id is in some label files and not in others"):
        build("c", write_first=False, labels="shards")
