import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.physionet2012 import PhysioNet2012, item_map
from backdoor_cohorts.records2012 import CODES
from backdoor_core.contracts import Context, Inclusion
from backdoor_core.errors import BackdoorError

ABSENT = {"spo2", "gcs_eye", "gcs_verbal", "gcs_motor", "hemoglobin", "chloride", "inr"}


def record(number, *lines, age=60, gender=1, weight=-1):
    head = [f"RecordID,{number}", f"Age,{age}", f"Gender,{gender}", "Height,-1", "ICUType,3", f"Weight,{weight}"]
    return "\n".join(["Time,Parameter,Value", *(f"00:00,{line}" for line in head), *lines]) + "\n"


RECORDS = {
    5: record(5, "00:07,HR,73", "00:07,HR,75", "23:59,HR,80", "24:00,HR,200", "01:00,,3", gender=0, weight=70),
    3: record(
        3,
        "01:00,NISysABP,100",
        "02:00,SysABP,120",
        "02:00,DiasABP,60",
        "03:00,NIMAP,80",
        "03:00,pH,7.2",
        "04:00,pH,735",
    ),
    4: record(4),  # nothing measured
    7: record(7, "01:00,HR,90", age=15),
    9: record(
        9, "00:30,Urine,100", "01:30,Urine,50", "02:00,Temp,-17.8", "02:00,SaO2,97", "02:00,GCS,15", "03:00,Weight,82"
    ),
    11: record(11, "01:00,HR,90", gender=-1),
    12: record(12, "01:00,HR,90"),
}
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n" + "".join(
    f"{number},6,1,5,-1,{death}\n" for number, death in {3: 1, 4: 0, 5: 0, 7: 0, 9: 0, 11: 1, 99: 1}.items()
)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "set-a"
    folder.mkdir()
    for number, text in RECORDS.items():
        (folder / f"{number}.txt").write_text(text)
    (tmp_path / "Outcomes-a.txt").write_text(OUTCOMES)
    return tmp_path


def source(root, records="set-a", outcomes="Outcomes-a.txt"):
    return PhysioNet2012(PhysioNet2012.Options(records=records, outcomes=outcomes), Context(root))


def build(cohort, out, **inclusion):
    card = cohort.build(out, Inclusion(**inclusion), np.random.default_rng(0))
    stays, table = pq.read_table(out / "stays.parquet"), pq.read_table(out / "table.parquet")
    rows = {
        stay: {name: table[name][i].as_py() for name in table.column_names}
        for i, stay in enumerate(stays["stay_id"].to_pylist())
    }
    return card, stays, rows


def test_stays(files, new_out):
    card, stays, rows = build(source(files), new_out())
    assert [step.stays for step in card.attrition] == [7, 6, 5, 5, 5, 4]
    assert list(rows) == [3, 5, 9, 11]
    assert stays["subject_id"] == stays["stay_id"]
    assert stays["label"].to_pylist() == [1, 0, 0, 1]
    assert stays["sex"].to_pylist() == ["M", "F", "M", None]
    assert stays["first_careunit"].to_pylist() == ["Medical ICU"] * 4


def test_values(files, new_out):
    _, _, rows = build(source(files), new_out())
    assert rows[3]["sbp"] == 110
    assert rows[3]["dbp"] == 60
    assert rows[3]["mbp"] == 80
    assert rows[3]["ph"] == pytest.approx(7.2)  # 735 lost its point and is dropped
    assert rows[5]["heart_rate"] == 76  # the window is half-open
    assert rows[5]["weight"] == 70
    assert rows[9]["weight"] == 82
    assert rows[9]["urine_output"] == 150
    assert np.isnan(rows[9]["temperature"])
    assert [rows[5]["sex"], rows[3]["sex"]] == [0, 1]
    assert np.isnan(rows[11]["sex"])


def test_absent_features_are_empty_and_told(files, new_out):
    card, _, rows = build(source(files), new_out())
    for row in rows.values():
        assert all(np.isnan(row[name]) for name in ABSENT)
    assert all(name in card.notes[-1] for name in ABSENT)
    assert not ABSENT & {item.feature for item in item_map()}
    assert [f.name for f in card.features] == list(rows[3])[1:]


def test_window_is_an_option(files, new_out):
    _, _, rows = build(source(files), new_out(), window_hours=48, min_los_hours=48)
    assert rows[5]["heart_rate"] == 107


@pytest.mark.parametrize("name", ["window_hours", "min_los_hours"])
def test_more_than_48_hours(files, new_out, name):
    with pytest.raises(BackdoorError, match=f"{name} is 49, but physionet2012 records cover 48 h"):
        build(source(files), new_out(), **{name: 49})


def archive(path, order):
    with tarfile.open(path, "w:gz") as tar:
        for number in order:
            content = RECORDS[number].encode()
            member = tarfile.TarInfo(f"set-a/{number}.txt")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_archive_folder_and_several_give_the_same_bytes(files, new_out):
    archive(files / "set-a.tar.gz", list(RECORDS)[::-1])
    archive(files / "one.tar.gz", list(RECORDS)[:3])
    archive(files / "two.tar.gz", list(RECORDS)[3:])
    outs = [new_out(name) for name in ("a", "b", "c")]
    for out, records in zip(outs, ["set-a", "set-a.tar.gz", ["two.tar.gz", "one.tar.gz"]], strict=True):
        build(source(files, records), out)
    for name in ("stays.parquet", "table.parquet"):
        assert len({(out / name).read_bytes() for out in outs}) == 1


def test_inputs(files):
    assert source(files).inputs() == [*sorted((files / "set-a").iterdir()), files / "Outcomes-a.txt"]
    archive(files / "set-a.tar.gz", RECORDS)
    assert source(files, "set-a.tar.gz").inputs() == [files / "set-a.tar.gz", files / "Outcomes-a.txt"]
    with pytest.raises(BackdoorError, match=r"set-b\.tar\.gz: no such file"):
        source(files, ["set-a", "set-b.tar.gz"]).inputs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is not 'Time,Parameter,Value'"),
        (record(5, "00:07,HR"), "line 8: '00:07,HR' is not"),
        (record(5, "soon,HR,70"), "line 8: 'soon,HR,70' is not"),
        (record(5, "00:07,HR,fast"), "line 8: '00:07,HR,fast' is not"),
        (record(5, "00:07,Hearts,70"), "line 8: unknown parameter 'Hearts'"),
        ("Time,Parameter,Value\n00:07,HR,70\n", "no RecordID"),
        (record(3), "RecordID 3 is there a second time"),
    ],
)
def test_broken_record(files, new_out, text, message):
    (files / "set-a" / "5.txt").write_text(text)
    with pytest.raises(BackdoorError, match=message) as caught:
        build(source(files), new_out())
    assert "5.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_archive(files, new_out, keep):
    path = files / "set-a.tar.gz"
    archive(path, RECORDS)
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * keep)])
    with pytest.raises(BackdoorError, match=r"set-a\.tar\.gz: cannot be read"):
        build(source(files, "set-a.tar.gz"), new_out())


def test_folder_without_records(files, new_out):
    (files / "empty").mkdir()
    with pytest.raises(BackdoorError, match="empty: no record in it"):
        build(source(files, "empty"), new_out())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RecordID,Length_of_stay\n3,5\n", "column In-hospital_death is missing"),
        ("", "column RecordID is missing"),
        ("RecordID,In-hospital_death\n3,2\n", "line 2: RecordID '3', In-hospital_death '2'"),
        ("RecordID,In-hospital_death\n3\n", "line 2: RecordID '3', In-hospital_death None"),
        ("RecordID,In-hospital_death\n3,1\n3,0\n", "line 3: RecordID 3 is there a second time"),
        ("RecordID,In-hospital_death\n999,1\n", "no stay is left by the rule 'hospital mortality known'"),
    ],
)
def test_broken_outcomes(files, new_out, text, message):
    (files / "Outcomes-a.txt").write_text(text)
    with pytest.raises(BackdoorError, match=message):
        build(source(files), new_out())


def test_outcomes_that_are_a_folder(files, new_out):
    with pytest.raises(BackdoorError, match="set-a: cannot be read"):
        build(source(files, outcomes="set-a"), new_out())


def test_every_item_has_its_parameter_and_range():
    names = list(CODES)
    by_name = {names[item.itemid]: item for item in item_map()}
    assert by_name["NISysABP"].feature == by_name["SysABP"].feature == "sbp"
    assert "SaO2" not in by_name
    assert by_name["GCS"].feature == "gcs_total"
    assert by_name["FiO2"].conversion == "percent"
    assert {name for name, feature in CODES.items() if feature is None} == {
        "Cholesterol",
        "MechVent",
        "SaO2",
        "TroponinI",
    }
    assert by_name["Urine"].high == 5000


def test_series(files, new_out):
    out = new_out()
    card = source(files).build(out, Inclusion(window_hours=48, min_los_hours=48), np.random.default_rng(0))
    series = pq.read_table(out / "series.parquet")
    names = [feature.name for feature in card.series_features]
    assert series.column_names == ["stay_id", "hour", *names, *(f"{name}.count" for name in names)]
    assert series["stay_id"].to_pylist() == [stay for stay in (3, 5, 9, 11) for _ in range(48)]
    assert series["hour"].to_pylist() == list(range(48)) * 4
    rows = {(row["stay_id"], row["hour"]): row for row in series.to_pylist()}
    rate = {key: (row["heart_rate"], row["heart_rate.count"]) for key, row in rows.items() if row["heart_rate.count"]}
    assert rate == {(5, 0): (74, 2), (5, 23): (80, 1), (5, 24): (200, 1), (11, 1): (90, 1)}
    assert [rows[9, hour]["urine_output"] for hour in (0, 1)] == [100, 50]
    assert np.isnan(rows[9, 2]["urine_output"])
    assert all(row["age"] == 60 and row["age.count"] == 1 for row in rows.values())
    assert card.views == ("table", "series")
    assert not (out / "events").exists()


def test_rich(files, new_out):
    card, _, rows = build(source(files), new_out(), features="rich")
    assert (rows[9]["gcs_total.mean"], rows[9]["gcs_total.count"]) == (15, 1)
    assert (rows[9]["urine_output.sum"], rows[9]["urine_output.max"]) == (150, 100)
    assert [rows[5][f"heart_rate.{name}"] for name in ("mean", "min", "max", "last", "count")] == [76, 73, 80, 80, 3]
    assert rows[3]["gcs_total.count"] == 0
    assert [feature.name for feature in card.features] == list(rows[3])[1:]


def test_times_are_not_known(files, new_out):
    _, stays, _ = build(source(files), new_out())
    assert stays.column_names == ["stay_id", "subject_id", "label", "intime", "outtime", "sex", "age", "first_careunit"]
    for name in ("intime", "outtime"):
        assert str(stays.schema.field(name).type) == "timestamp[us]"
        assert stays[name].null_count == 4


@pytest.mark.parametrize(
    ("inclusion", "message"),
    [
        (
            {"label": "icu_mortality"},
            "label is icu_mortality, but physionet2012 gives neither .* use hospital_mortality",
        ),
        ({"label": "los_gt_7d"}, "label is los_gt_7d, but physionet2012 gives neither"),
        ({"visibility": "storetime"}, "visibility is storetime, but physionet2012 does not tell .* use charttime"),
        ({"gap_hours": 25}, r"window_hours \+ gap_hours is 49, but physionet2012 records cover 48 h"),
        ({"views": ("events",)}, "views is events, but physionet2012 has table and series"),
    ],
)
def test_what_the_challenge_does_not_tell(files, new_out, inclusion, message):
    with pytest.raises(BackdoorError, match=message) as caught:
        build(source(files), new_out(), **inclusion)
    assert "\n" not in str(caught.value)


def test_gap_within_the_record_leaves_none_out(files, new_out):
    card, _, _ = build(source(files), new_out(), gap_hours=24, first_stay_only=True)
    assert card.attrition[-1].stays == 4
    assert "24 h" in next(step.rule for step in card.attrition if "gap" in step.rule)
