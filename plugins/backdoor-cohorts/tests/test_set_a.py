"""Set-a of the challenge against figures that are computed here, in plain Python, from its text files."""

import csv
import statistics
import tarfile
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from backdoor_cohorts.physionet2012 import PhysioNet2012
from backdoor_core.contracts import Context, Inclusion

VARIABLES = {
    "heart_rate": (["HR"], 1, 300),
    "sbp": (["SysABP", "NISysABP"], 1, 300),
    "dbp": (["DiasABP", "NIDiasABP"], 1, 200),
    "mbp": (["MAP", "NIMAP"], 1, 250),
    "resp_rate": (["RespRate"], 1, 70),
    "temperature": (["Temp"], 26, 45),
    "fio2": (["FiO2"], 0.21, 1),
    "gcs_total": (["GCS"], 3, 15),
    "urine_output": (["Urine"], 0, 5000),
    "weight": (["Weight"], 20, 400),
    "height": (["Height"], 120, 230),
    "wbc": (["WBC"], 0.01, 1000),
    "hematocrit": (["HCT"], 5, 75),
    "platelets": (["Platelets"], 1, 2000),
    "sodium": (["Na"], 80, 200),
    "potassium": (["K"], 1, 12),
    "bicarbonate": (["HCO3"], 2, 60),
    "bun": (["BUN"], 1, 300),
    "creatinine": (["Creatinine"], 0.1, 60),
    "glucose": (["Glucose"], 10, 2000),
    "magnesium": (["Mg"], 0.3, 20),
    "lactate": (["Lactate"], 0.1, 50),
    "ph": (["pH"], 6.5, 8),
    "po2": (["PaO2"], 15, 760),
    "pco2": (["PaCO2"], 5, 200),
    "bilirubin_total": (["Bilirubin"], 0.1, 100),
    "albumin": (["Albumin"], 0.5, 6),
    "alt": (["ALT"], 1, 11000),
    "ast": (["AST"], 1, 22000),
    "alp": (["ALP"], 1, 4000),
    "troponin_t": (["TroponinT"], 0.005, 25),
}
"""Variable: the parameters of the challenge, and the plausible range of one measurement."""


@pytest.fixture(scope="module")
def folder(real_data):
    path = real_data / "physionet2012"
    if not (path / "set-a.tar.gz").is_file():
        pytest.skip(f"no PhysioNet 2012 set-a in {real_data}")
    return path


@pytest.fixture(scope="module")
def records(folder):
    """RecordID -> [(hours, parameter, value)] as the files have them, in plain Python."""
    found = {}
    with tarfile.open(folder / "set-a.tar.gz") as archive:
        for member in archive:
            if not member.isfile() or not member.name.endswith(".txt"):
                continue
            rows = list(csv.reader(archive.extractfile(member).read().decode().splitlines()))[1:]
            values = [(int(t[:2]) + int(t[3:]) / 60, name, float(value)) for t, name, value in rows]
            found[int(next(value for _, name, value in values if name == "RecordID"))] = values
    return found


@pytest.fixture(scope="module")
def deaths(folder):
    with (folder / "Outcomes-a.txt").open() as file:
        return {int(row["RecordID"]): int(row["In-hospital_death"]) for row in csv.DictReader(file)}


def marginals(records, deaths, window):
    """(variable, death) -> mean, standard deviation and missing share of the patients' means (urine: sums)."""
    parameter_of = {name: variable for variable, (names, _, _) in VARIABLES.items() for name in names}
    per_patient = defaultdict(list)
    patients = [0, 0]
    for record, rows in records.items():
        descriptors = {"RecordID", "Age", "Gender", "Height", "ICUType", "Weight", ""}
        if all(name in descriptors and (hours == 0 or not name) for hours, name, _ in rows):
            continue  # no time at which anything was measured
        patients[deaths[record]] += 1
        values = defaultdict(list)
        for hours, name, value in rows:
            if name in parameter_of and hours < window:
                variable = parameter_of[name]
                _, low, high = VARIABLES[variable]
                if low <= value <= high:
                    values[variable].append(100 * value if variable == "fio2" else value)
        for variable, given in values.items():
            if variable != "urine_output":
                per_patient[variable, deaths[record]].append(sum(given) / len(given))
            elif sum(given) <= 20_000 * window / 24:  # more than 20 L of urine a day is a charting error
                per_patient[variable, deaths[record]].append(sum(given))
    return {
        (variable, death): (statistics.fmean(given), statistics.stdev(given), 1 - len(given) / patients[death])
        for (variable, death), given in per_patient.items()
    }


@pytest.mark.parametrize("window", [24, 48])
def test_marginals(folder, records, deaths, window, tmp_path):
    """4,000 stays, 554 deaths; mean, spread and missingness of each variable, for survivors and deaths."""
    assert (len(records), sum(deaths[record] for record in records)) == (4000, 554)
    options = PhysioNet2012.Options(records="set-a.tar.gz", outcomes="Outcomes-a.txt")
    inclusion = Inclusion(window_hours=window, min_age=0, features="rich", views=("table",))
    card = PhysioNet2012(options, Context(folder)).build(tmp_path, inclusion, np.random.default_rng(0))
    stays, table = pq.read_table(tmp_path / "stays.parquet"), pq.read_table(tmp_path / "table.parquet")
    label = stays["label"].to_numpy()
    assert (card.attrition[0].stays, label.sum()) == (4000, 554)
    assert stays["stay_id"].to_pylist() == sorted(stays["stay_id"].to_pylist())
    assert all(deaths[stay] == given for stay, given in zip(stays["stay_id"].to_pylist(), label, strict=True))
    expected = marginals(records, deaths, window)
    assert len(expected) == 2 * len(VARIABLES)
    for (variable, death), figures in expected.items():
        column = f"{variable}.{'sum' if variable == 'urine_output' else 'mean'}"
        values = table[column].to_numpy()[label == death].astype(np.float64)
        found = np.nanmean(values), np.nanstd(values, ddof=1), np.isnan(values).mean()
        assert found == pytest.approx(figures, rel=2e-6, abs=1e-9), (variable, death)


def test_default_cohort(folder, tmp_path):
    """Six patients are under 18 and three others have no measurement. None of them died."""
    options = PhysioNet2012.Options(records="set-a.tar.gz", outcomes="Outcomes-a.txt")
    card = PhysioNet2012(options, Context(folder)).build(tmp_path, Inclusion(), np.random.default_rng(0))
    assert [step.stays for step in card.attrition] == [4000, 3994, 3991, 3991, 3991, 3991]
    stays = pq.read_table(tmp_path / "stays.parquet")
    assert stays["label"].to_numpy().sum() == 554
    rate = pq.read_table(tmp_path / "series.parquet", columns=["stay_id", "hour", "heart_rate", "heart_rate.count"])
    assert rate.num_rows == 3991 * 24
    measured = ~np.isnan(rate["heart_rate"].to_numpy())
    assert ((rate["heart_rate.count"].to_numpy() > 0) == measured).all()
    assert 0.8 < measured.mean() < 1
