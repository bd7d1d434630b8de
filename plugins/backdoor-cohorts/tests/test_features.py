import re
from importlib.resources import files

import pytest

from backdoor_cohorts.features import (
    CORE30,
    DICTIONARY,
    EVENT_TABLES,
    core30,
    item_map,
    series_features,
    table_columns,
    variables,
)

# The order is part of every saved cohort: the trigger option `feature: 2` means heart rate.
# fmt: off
ORDER = [
    "age", "sex", "heart_rate", "sbp", "dbp", "mbp",
    "resp_rate", "temperature", "spo2", "gcs_eye", "gcs_verbal", "gcs_motor",
    "urine_output", "weight", "wbc", "hemoglobin", "platelets", "sodium",
    "potassium", "chloride", "bicarbonate", "bun", "creatinine", "glucose",
    "lactate", "ph", "po2", "pco2", "bilirubin_total", "inr",
]
# fmt: on
NEVER = {
    220046: "heart rate alarm, high",
    220047: "heart rate alarm, low",
    226253: "SpO2 desaturation limit",
    227510: "tube-feeding residual",
    224688: "respiratory rate set on the ventilator",
    224027: "skin temperature",
    50820 + 671: "urine pH",
}


def sql(step):
    return files("backdoor_cohorts").joinpath("sql", f"{step}.sql").read_text(encoding="utf-8")


def test_core30_is_thirty_features_in_the_published_order():
    assert [f.name for f in CORE30] == ORDER


def test_dictionary_holds_the_later_views_too():
    assert len(DICTIONARY) == 46
    assert len({entry.feature for entry in DICTIONARY}) == 46


@pytest.mark.parametrize("itemid", NEVER, ids=NEVER.values())
def test_settings_and_foreign_items_are_not_measurements(itemid):
    assert itemid not in {item.itemid for item in item_map(e.feature for e in DICTIONARY)}


def test_each_item_measures_one_thing():
    items = item_map(entry.feature for entry in DICTIONARY)
    assert len({item.itemid for item in items}) == len(items)  # also across tables: sql/measurements.sql joins by it
    charted = [item for item in items if item.source != "derived"]
    assert {item.source for item in charted} == set(EVENT_TABLES)


def test_ranges_are_ranges_and_units_are_given():
    for entry in DICTIONARY:
        assert entry.low < entry.high, entry.feature
        assert entry.record_low < entry.record_high, entry.feature
        assert entry.unit, entry.feature


def test_every_named_conversion_belongs_to_an_item_and_to_the_sql():
    known = {
        "chartevents": set(re.findall(r"WHEN '(\w+)' THEN", sql("chartevents"))),
        "outputevents": set(re.findall(r"conversion = '(\w+)' THEN", sql("outputevents"))),
    }
    assert known["outputevents"] == {"irrigant"}
    for entry in DICTIONARY:
        assert set(entry.conversions) <= set(entry.itemids)
        assert set(entry.conversions.values()) <= known.get(entry.table, set())
        assert entry.preferred <= set(entry.itemids)


def test_rich_columns():
    columns = table_columns("rich", 24)
    names = [column.feature.name for column in columns]
    assert names[:2] == ["age", "sex"]
    assert len(names) == len(set(names)) == 2 + 44 * 5 + 1
    assert {"gcs_total.min", "height.last", "urine_output.sum", "alp.count", "heart_rate.mean"} <= set(names)
    by_name = {column.feature.name: column.feature for column in columns}
    assert (by_name["heart_rate.max"].low, by_name["heart_rate.max"].high) == (1, 300)
    assert (by_name["heart_rate.count"].low, by_name["heart_rate.count"].unit) == (0, "measurements")
    assert by_name["urine_output.sum"].high == 20000
    assert {c.feature.name: c.feature.high for c in table_columns("rich", 48)}["urine_output.sum"] == 40000


def test_core30_columns_are_its_features():
    assert tuple(column.feature for column in table_columns("core30", 48)) == core30(48)


@pytest.mark.parametrize(("features", "count"), [("core30", 30), ("rich", 46)])
def test_series_features_are_the_variables(features, count):
    found = series_features(features)
    assert [f.name for f in found] == [f.name for f in variables(features, 24)]
    assert len(found) == count
    by_name = {f.name: f.description for f in found}
    assert by_name["heart_rate"] == "Heart rate, mean of the hour"
    assert by_name["urine_output"] == "Urine output, sum of the hour"
    assert by_name["age"] == "Age at hospital admission"


def test_sum_range_grows_with_the_window():
    by_name = {f.name: f for f in core30(48)}
    assert by_name["urine_output"].high == 40000
    assert by_name["heart_rate"].high == 300
    assert core30(24) == CORE30
    assert core30(6) == CORE30


def test_unknown_feature():
    with pytest.raises(KeyError, match="heartrate"):
        item_map(["heartrate"])


STEPS = sorted(p.stem for p in files("backdoor_cohorts").joinpath("sql").iterdir() if not p.stem.startswith("meds_"))


@pytest.mark.parametrize("step", STEPS)
def test_sql_reads_nothing_from_after_the_prediction(step):
    forbidden = (
        r"\b(diagnoses_icd|procedures_icd|drgcodes|dod|dischtime|discharge_location|last_careunit|los|stoptime"
        r"|statusdescription)\b"
    )
    code = re.sub(r"--.*", "", sql(step))
    assert not re.search(forbidden, code)
    # ICU discharge, death and the flag make the label and the exclusions; no view may know them.
    assert step in {"stays", "inclusion"} or not re.search(r"outtime|deathtime|death_hours|expire|los_hours", code)
