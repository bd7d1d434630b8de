"""What is ordered in the synthetic hospital: prescriptions, cultures, procedures and ingredients."""

import csv
import gzip
import re

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from backdoor_cohorts.simulate import simulate
from backdoor_cohorts.simulate.catalogs import catalog

COLUMNS = {
    "hosp/prescriptions": "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,"
    "drug_type,drug,formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,form_val_disp,"
    "form_unit_disp,doses_per_24_hrs,route",
    "hosp/microbiologyevents": "microevent_id,subject_id,hadm_id,micro_specimen_id,order_provider_id,chartdate,"
    "charttime,spec_itemid,spec_type_desc,test_seq,storedate,storetime,test_itemid,test_name,org_itemid,org_name,"
    "isolate_num,quantity,ab_itemid,ab_name,dilution_text,dilution_comparison,dilution_value,interpretation,comments",
    "icu/procedureevents": "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,value,valueuom,"
    "location,locationcategory,orderid,linkorderid,ordercategoryname,ordercategorydescription,patientweight,"
    "isopenbag,continueinnextdept,statusdescription,ORIGINALAMOUNT,ORIGINALRATE",
    "icu/ingredientevents": "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,amount,"
    "amountuom,rate,rateuom,orderid,linkorderid,statusdescription,originalamount,originalrate",
}
"""As published in MIMIC-IV 2.2."""
OUTCOME_WORDS = re.compile(
    r"\b(death|dead|died|dies|dying|expired?|deceased|mortality|hospice|comfort|morgue|CMO)\b", re.I
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    simulate(folder, 4000, 7)
    return folder


@pytest.fixture(scope="module")
def db(raw):
    """The raw tables as views; `included` stays and their `orders` of the first 24 hours."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    for path in raw.rglob("*.parquet"):
        connection.execute(f"CREATE VIEW {path.stem} AS SELECT * FROM read_parquet('{path}')")
    connection.execute("""
        CREATE TABLE included AS
        SELECT i.stay_id, i.subject_id, i.intime, a.hospital_expire_flag AS died
        FROM icustays i JOIN admissions a USING (hadm_id) JOIN patients p ON p.subject_id = i.subject_id
        WHERE p.anchor_age + year(a.admittime) - p.anchor_year >= 18
          AND i.outtime >= i.intime + INTERVAL 24 HOUR
          AND (a.deathtime IS NULL OR a.deathtime >= i.intime + INTERVAL 24 HOUR)""")
    connection.execute("""
        CREATE TABLE orders AS SELECT s.stay_id, kind, code FROM included s JOIN (
            SELECT subject_id, starttime AS moment, 'PRESCRIPTION' AS kind, drug AS code FROM prescriptions
            UNION ALL SELECT subject_id, starttime, 'PROCEDURE', itemid::TEXT FROM procedureevents
            UNION ALL SELECT subject_id, starttime, 'INGREDIENT', itemid::TEXT FROM ingredientevents
            UNION ALL SELECT DISTINCT subject_id, charttime, 'MICROBIOLOGY', test_name FROM microbiologyevents) e
          ON s.subject_id = e.subject_id AND moment >= intime AND moment < intime + INTERVAL 24 HOUR""")
    yield connection
    connection.close()


@pytest.mark.parametrize("table", list(COLUMNS))
def test_columns_are_the_published_ones(raw, table):
    assert pq.read_schema(raw / f"{table}.parquet").names == COLUMNS[table].split(",")


def test_every_table_has_the_columns_of_the_demo(raw, real_data):
    compared = 0
    for path in sorted((real_data / "mimic-iv-demo-2.2").glob("*/*.csv.gz")):
        made = raw / path.parent.name / path.name.replace(".csv.gz", ".parquet")
        if made.is_file():
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                assert pq.read_schema(made).names == next(csv.reader(file)), path.name
            compared += 1
    assert compared == 12


def test_a_stay_has_a_realistic_number_of_orders(db):
    found = dict(db.execute("SELECT kind, count(*) / 4000 FROM orders GROUP BY kind").fetchall())
    assert 10 < found["PRESCRIPTION"] < 30
    assert 4 < found["PROCEDURE"] < 15
    assert 8 < found["INGREDIENT"] < 25
    assert 1 < found["MICROBIOLOGY"] < 5
    (bare,) = db.execute("SELECT count(*) FROM included ANTI JOIN orders USING (stay_id)").fetchone()
    assert bare < 4
    codes = dict(db.execute("SELECT kind, count(DISTINCT code) FROM orders GROUP BY kind").fetchall())
    assert codes["PRESCRIPTION"] >= 60
    assert codes["PROCEDURE"] >= 25
    assert codes["INGREDIENT"] >= 10


def test_ids_are_unique(db):
    for name, key in (
        ("prescriptions", "pharmacy_id"),
        ("microbiologyevents", "microevent_id"),
        ("procedureevents", "orderid"),
        ("ingredientevents", "orderid"),
    ):
        rows, distinct = db.execute(f"SELECT count(*), count(DISTINCT {key}) FROM {name}").fetchone()
        assert rows == distinct > 1000, name


def test_items_are_in_the_dictionary_of_their_table(db):
    for events in ("procedureevents", "ingredientevents"):
        (unknown,) = db.execute(f"""
            SELECT count(*) FROM {events} ANTI JOIN (SELECT itemid FROM d_items WHERE linksto = '{events}')
            USING (itemid)""").fetchone()
        assert unknown == 0, events
    rows, distinct = db.execute("SELECT count(*), count(DISTINCT itemid) FROM d_items").fetchone()
    assert rows == distinct


def test_every_order_lies_in_its_stay_and_before_a_death(db):
    for events in ("procedureevents", "ingredientevents"):
        (wrong,) = db.execute(f"""
            SELECT count(*) FROM {events} e JOIN icustays i USING (stay_id) JOIN admissions a ON a.hadm_id = e.hadm_id
            WHERE starttime < intime OR starttime >= outtime OR starttime >= intime + INTERVAL 48 HOUR
               OR starttime >= coalesce(deathtime, 'infinity') OR endtime <= starttime
               OR endtime > least(outtime, coalesce(deathtime, 'infinity')) + INTERVAL 1 MINUTE
               OR storetime < endtime OR i.hadm_id <> e.hadm_id OR i.subject_id <> e.subject_id""").fetchone()
        assert wrong == 0, events
    (wrong,) = db.execute("""
        SELECT count(*) FROM prescriptions p JOIN admissions a USING (hadm_id)
        WHERE starttime < admittime OR starttime >= coalesce(deathtime, dischtime) OR stoptime < starttime
           OR stoptime > greatest(coalesce(deathtime, dischtime), starttime)""").fetchone()
    assert wrong == 0
    (wrong,) = db.execute("""
        SELECT count(*) FROM microbiologyevents m JOIN admissions a USING (hadm_id)
        WHERE charttime < admittime OR charttime >= coalesce(deathtime, dischtime) OR storetime <= charttime
           OR chartdate <> date_trunc('day', coalesce(charttime, chartdate)) OR storedate > storetime""").fetchone()
    assert wrong == 0


def test_some_orders_are_from_before_the_icu(db):
    (share,) = db.execute("""
        SELECT avg((starttime < intime)::INT) FROM prescriptions JOIN (
            SELECT hadm_id, min(intime) AS intime FROM icustays GROUP BY hadm_id HAVING count(*) = 1) USING (hadm_id)
    """).fetchone()
    assert 0.03 < share < 0.2


def test_the_value_of_a_procedure_is_its_length(db):
    (wrong,) = db.execute("""
        SELECT count(*) FROM procedureevents
        WHERE (valueuom = 'min' AND value <> date_diff('minute', starttime, endtime))
           OR (valueuom = 'None' AND (value <> 1 OR endtime <> starttime + INTERVAL 1 MINUTE))""").fetchone()
    assert wrong == 0
    (wrong,) = db.execute("""
        SELECT count(*) FROM ingredientevents
        WHERE abs(amount - rate * date_diff('minute', starttime, endtime) / 60) > 0.006""").fetchone()
    assert wrong == 0


def test_procedures_go_with_the_organ_support_that_the_chart_shows(db):
    charted, ventilated, both = db.execute("""
        WITH charted AS (SELECT DISTINCT stay_id FROM chartevents WHERE value = 'No Response-ETT'),
             ventilated AS (SELECT DISTINCT stay_id FROM procedureevents WHERE itemid = 225792)
        SELECT (SELECT count(*) FROM charted), (SELECT count(*) FROM ventilated),
               (SELECT count(*) FROM charted SEMI JOIN ventilated USING (stay_id))""").fetchone()
    assert both == charted  # whoever is charted as intubated is ventilated, and nearly all of these are charted so
    assert both > 0.85 * ventilated
    (charted,) = db.execute("""
        SELECT count(*) FROM chartevents c JOIN procedureevents p USING (stay_id)
        WHERE p.itemid = 225792 AND c.value = 'No Response-ETT' AND c.charttime > p.endtime + INTERVAL 1 MINUTE
    """).fetchone()
    assert charted == 0
    arterial, cuff = (
        db.execute(f"""SELECT count(DISTINCT stay_id) FROM chartevents {how} JOIN (
                       SELECT stay_id FROM procedureevents WHERE itemid = 225752) USING (stay_id)
                       WHERE itemid = {item}""").fetchone()[0]
        for how, item in (("SEMI", 220052), ("SEMI", 220181))
    )
    assert arterial > 1000
    assert cuff == 0


@pytest.mark.parametrize("code", ["NORepinephrine", "Vasopressin", "Meropenem", "225792", "225802", "224263"])
def test_the_sick_get_more_organ_support_and_broader_antibiotics(db, code):
    survived, died = db.execute(f"""
        WITH has AS (SELECT died, stay_id IN (SELECT stay_id FROM orders WHERE code = '{code}') AS has FROM included)
        SELECT avg(has::INT) FILTER (died = 0), avg(has::INT) FILTER (died = 1) FROM has""").fetchone()
    assert 0 < survived * 1.08 < died < 0.95


def test_orders_follow_what_is_measured(db):
    """Among survivors alone: bad kidneys are dialyzed, low pressure and much lactate get vasopressors."""
    for item, kind, code in ((50912, "PROCEDURE", "225802"), (50813, "PRESCRIPTION", "NORepinephrine")):
        low, high = db.execute(f"""
            WITH level AS (
                SELECT s.stay_id, avg(valuenum) AS level FROM included s JOIN labevents e ON e.subject_id = s.subject_id
                  AND charttime >= intime AND charttime < intime + INTERVAL 24 HOUR
                WHERE itemid = {item} AND died = 0 GROUP BY s.stay_id),
            ranked AS (SELECT stay_id, ntile(3) OVER (ORDER BY level, stay_id) AS third FROM level)
            SELECT avg(has::INT) FILTER (third = 1), avg(has::INT) FILTER (third = 3) FROM (
                SELECT third, stay_id IN (SELECT stay_id FROM orders WHERE kind = '{kind}' AND code = '{code}') AS has
                FROM ranked)""").fetchone()
        assert high > 1.3 * low, code


def test_counts_of_orders_and_tests_tell_the_outcome_about_as_well_as_the_measurements(db):
    db.execute("""
        CREATE TEMP TABLE counts AS SELECT stay_id, kind || code AS code, count(*) AS n FROM (
            SELECT * FROM orders
            UNION ALL SELECT s.stay_id, 'LAB', itemid::TEXT FROM included s JOIN labevents e
              ON s.subject_id = e.subject_id AND charttime >= intime AND charttime < intime + INTERVAL 24 HOUR)
        GROUP BY ALL""")
    stays = db.execute("SELECT stay_id, subject_id, died FROM included ORDER BY stay_id").fetchnumpy()
    found = db.execute("SELECT stay_id, code, n FROM counts").fetchnumpy()
    codes, column = np.unique(found["code"].astype(str), return_inverse=True)
    values = np.zeros((len(stays["stay_id"]), len(codes)))
    values[np.searchsorted(stays["stay_id"], found["stay_id"]), column] = np.log1p(found["n"])
    chance = cross_val_predict(
        LogisticRegression(C=0.05, max_iter=300),
        values,
        stays["died"],
        groups=stays["subject_id"],
        cv=GroupKFold(3),
        method="predict_proba",
    )[:, 1]
    assert 0.70 < roc_auc_score(stays["died"], chance) < 0.80
    # No single code gives it away.
    for number, code in enumerate(codes):
        assert 0.35 < roc_auc_score(stays["died"], values[:, number]) < 0.65, code


def test_no_text_names_the_outcome(raw):
    seen = 0
    for path in raw.rglob("*.parquet"):
        if path.stem in ("patients", "admissions"):
            continue  # the discharge columns do, as in MIMIC-IV; no view reads them
        table = pq.read_table(path)
        for name in table.column_names:
            if str(table.schema.field(name).type) == "string":
                words = [text for text in table[name].unique().to_pylist() if text]
                assert not [text for text in words if OUTCOME_WORDS.search(text)], (path.stem, name)
                seen += len(words)
    assert seen > 500


def test_cultures_are_known_days_later_and_only_grown_organisms_are_tested(db):
    half, share = db.execute("""
        SELECT median(date_diff('minute', charttime, storetime) / 1440), avg((charttime IS NULL)::INT)
        FROM microbiologyevents WHERE spec_type_desc = 'BLOOD CULTURE'""").fetchone()
    assert 3.5 < half < 4.5
    assert 0.01 < share < 0.06
    grown, tested = db.execute("""
        SELECT avg((org_name IS NOT NULL)::INT), avg((ab_name IS NOT NULL)::INT) FILTER (org_name IS NOT NULL)
        FROM (SELECT DISTINCT ON (micro_specimen_id) * FROM microbiologyevents)""").fetchone()
    assert 0.05 < grown < 0.25
    assert tested > 0.7
    (wrong,) = db.execute("""
        SELECT count(*) FROM microbiologyevents
        WHERE (ab_name IS NULL) <> (interpretation IS NULL) OR (ab_name IS NOT NULL AND org_name IS NULL)
           OR (org_name IS NULL) <> (comments IS NOT NULL)""").fetchone()
    assert wrong == 0
    shares = dict(db.execute("SELECT interpretation, count(*) FROM microbiologyevents GROUP BY 1").fetchall())
    assert 0.15 < shares["R"] / (shares["R"] + shares["I"] + shares["S"]) < 0.3
    specimens, rows = db.execute("""
        SELECT count(DISTINCT ab_name), count(*) FROM microbiologyevents
        WHERE org_name = 'ESCHERICHIA COLI' GROUP BY micro_specimen_id LIMIT 1""").fetchone()
    assert specimens == rows == 3


def test_every_entry_of_the_catalogs_happens_about_as_often_as_it_says(db):
    """Over all stays, whose drivers average near zero."""
    entries = catalog("drugs")
    found = dict(
        db.execute(
            "SELECT code, count(DISTINCT stay_id) / 4000 FROM orders WHERE kind = 'PRESCRIPTION' GROUP BY code"
        ).fetchall()
    )
    share = np.array([found[drug] for drug in entries.texts("drug")])
    # What begins before the ICU or after a day is not among them; the sick and the spread of drivers add some.
    assert np.corrcoef(share, entries.numbers("share"))[0, 1] > 0.95
    assert 0.6 < share.sum() / entries.numbers("share").sum() < 1
