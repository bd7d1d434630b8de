import re
from importlib.resources import files

import pytest

from backdoor_cohorts.features import CORE30, DICTIONARY, EVENT_TABLES, core30, item_map

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
    known = set(re.findall(r"WHEN '(\w+)' THEN", sql("measurements"))) | {"irrigant"}
    for entry in DICTIONARY:
        assert set(entry.conversions) <= set(entry.itemids)
        assert set(entry.conversions.values()) <= known
        assert entry.preferred <= set(entry.itemids)


def test_table_has_the_columns_of_core30_in_order():
    select = sql("table_core30").rsplit("SELECT", 1)[1].split("FROM stays")[0]
    assert re.findall(r" AS (\w+),?\n", select) == [*ORDER]
    for pivoted, name in re.findall(r"feature = '(\w+)' THEN p.value END\) AS (\w+)", select):
        assert pivoted == name


def test_sum_range_grows_with_the_window():
    by_name = {f.name: f for f in core30(48)}
    assert by_name["urine_output"].high == 40000
    assert by_name["heart_rate"].high == 300
    assert core30(24) == CORE30
    assert core30(6) == CORE30


def test_unknown_feature():
    with pytest.raises(KeyError, match="heartrate"):
        item_map(["heartrate"])


def test_sql_reads_nothing_from_after_the_prediction():
    forbidden = r"\b(diagnoses_icd|drgcodes|dod|dischtime|discharge_location|last_careunit|los)\b"
    for step in ("stays", "inclusion", "chartevents", "labevents", "outputevents", "measurements", "table_core30"):
        code = re.sub(r"--.*", "", sql(step))
        assert not re.search(forbidden, code), step
