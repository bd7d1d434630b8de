import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
from example_sweep import make_sweep
from scipy import stats

from backdoor_core.report.sweep_methods import meanings, methods
from backdoor_core.report.sweep_page import build_sweep_page
from backdoor_core.report.sweep_payload import payload, payload_text

DETECTOR = "spectral_signatures"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def sweep():
    return make_sweep(parameters={"train.epochs": [10, 20]}, failed=(3,))


@pytest.fixture(scope="module")
def page(sweep):
    return build_sweep_page(**sweep)


def held(page):
    return json.loads(DATA.search(page)[1])


# ---------------------------------------------------------------------------------------------------- the text
def test_equal_sweeps_give_equal_pages(page):
    assert build_sweep_page(**make_sweep(parameters={"train.epochs": [10, 20]}, failed=(3,))) == page


def test_page_names_no_address_to_fetch(page):
    assert not re.findall(r"""(?:src|href|action|srcset|poster)\s*=\s*["']?(?!["']?(?:#|data:,))""", page)
    assert set(re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]+[^\"'\s]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in page
    assert "url(" not in page
    assert not re.findall(r"\b(?:fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import)\s*\(", page)


def test_policy_allows_the_pages_script_alone(page):
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page.replace("&#39;", "'")


def test_a_hostile_error_stays_text(sweep, page):
    assert "</script><b>" in sweep["rows"][3]["error"]
    assert page.count("</script>") == 2
    assert "finite &lt;/script&gt;&lt;b&gt;" in page
    assert held(page)["cells"]["errors"] == {"3": sweep["rows"][3]["error"]}


def test_header_counts_and_warns(sweep, page):
    assert "<strong>119 done</strong>, <strong>1 failed</strong>; 3 seeds." in page
    assert sweep["aggregated"]["cells"]["errors"][0]["cell"] in page
    assert "1 of 40 groups have fewer than 3 seeds" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (1,)}, "Every group has one seed: no interval and no p-value"),
        ({"seeds": (1, 2)}, "Every group has fewer than 3 seeds"),
        ({"failed": range(60)}, "No cell is done"),
    ],
)
def test_few_seeds_and_failures_are_said_plainly(changes, words):
    assert words in build_sweep_page(**make_sweep(**changes))


def test_enough_seeds_and_no_failure_give_no_warning():
    page = build_sweep_page(**make_sweep(models=("mlp",)))
    assert re.findall(r'class="banner warning"[^>]*>([^<]*)', page.split("<noscript>")[0]) == []
    assert 'id="failures"' not in page


def test_many_failures_are_folded():
    page = build_sweep_page(**make_sweep(failed=range(12)))
    assert "<summary>2 more</summary>" in page


def test_methods_tell_the_grid(sweep):
    text = " ".join(methods(sweep["aggregated"]))
    for words in (
        "Cohort: synthetic",
        "first 24 h",
        "training (70%), validation (15%) and test (15%)",
        "2 models (logistic, mlp)",
        "5 poisoning rates (0%, 0.1%, 0.5%, 2%, 10%)",
        "train.epochs (10, 20)",
        "3 seeds (42, 43, 44): 120 cells",
        "Holm",
    ):
        assert words in text
    terms = dict(meanings(sweep["aggregated"]))
    assert "3 in each cell" in terms["Null of the lift"]
    assert {"ASR", "Lift", "TPR at 1% FPR", "Null run", "TAR", "Doses"} <= set(terms)


def test_methods_tell_every_value_of_what_the_grid_varies():
    sweep = make_sweep(parameters={"poison.labels": ["flip", "clean"], "detection.nulls": [0, 10]})["aggregated"]
    text = " ".join(methods(sweep))
    assert "stays of another label, relabeled as the target or of the target label, their labels kept; drawn" in text
    assert "after a gap" not in text
    assert "0 or 10 in each cell" in dict(meanings(sweep))["Null of the lift"]


def test_a_parameter_of_included_cells_alone_tells_series_apart():
    sweep = make_sweep(models=["mlp"], triggers=["rare_value"], parameters={"poison.labels": ["clean", "flip"]})
    for entries in (sweep["rows"], *(sweep["aggregated"][kind] for kind in ("groups", "tests", "doses"))):
        for entry in entries:
            if entry["parameters"]["poison.labels"] == "flip":
                entry["parameters"] = {}
    sweep["aggregated"]["axes"]["parameters"] = {"poison.labels": ["clean"]}
    data = held(build_sweep_page(**sweep))
    assert data["axes"]["parameters"] == [{"name": "poison.labels", "values": ["clean", "as in params.yaml"]}]
    assert data["as_given"] == "as in params.yaml"
    assert set(data["groups"]["set"]) == set(data["cells"]["set"]) == {0, 1}
    text = " ".join(methods(sweep["aggregated"]))
    assert "poison.labels (clean, else as in params.yaml)" in text
    assert "30 cells, not every combination of these." in text


# ---------------------------------------------------------------------------------------------------- the data
def test_groups_hold_means_and_intervals_to_five_digits(sweep, page):
    data, groups = held(page), sweep["aggregated"]["groups"]
    for name, column in data["groups"]["metrics"].items():
        for k, group in enumerate(groups):
            metric = group["metrics"].get(name)
            for short, key in {"mean": "mean", "low": "t_low", "high": "t_high", "n": "n"}.items():
                expected = None if metric is None else metric[key]
                assert column[short][k] == (None if expected is None else pytest.approx(expected, rel=1e-4))
    for kind in ("null_lift", "null_asr"):
        for end in ("low", "high"):
            assert data["groups"][kind][end] == pytest.approx([group[kind][end] for group in groups], rel=1e-4)


def test_oracles_and_detectors_are_told_apart(page):
    detectors = {one["name"]: one["oracle"] for one in held(page)["detectors"]}
    assert detectors == {DETECTOR: False, "range_rule": False, "random_filter": False, "perfect_filter": True}


def test_times_are_medians_and_totals(sweep, page):
    for entry in held(page)["times"]:
        for stage in entry["stages"]:
            rows = [
                r["seconds"] for r in sweep["timings"] if (r["model"], r["stage"]) == (entry["model"], stage["stage"])
            ]
            assert stage["cells"] == len(rows)
            assert stage["median"] == pytest.approx(np.median(rows), rel=1e-4)
            assert stage["total"] == pytest.approx(np.sum(rows), rel=1e-4)


def test_parameters_of_any_kind_are_axes():
    sweep = make_sweep(
        models=("mlp",), rates=(0.02,), parameters={"train.pos_weight": [1.0, "balanced"], "x.y": [[1, 2]]}
    )
    data = payload(sweep["aggregated"], sweep["rows"], sweep["timings"])
    assert data["axes"]["parameters"] == [
        {"name": "train.pos_weight", "values": ["1.0", "balanced"]},
        {"name": "x.y", "values": ["[1, 2]"]},
    ]
    assert data["sets"] == [[0, 0], [1, 0]]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        payload_text({"figure": float("nan")})


# ------------------------------------------------------------------------------------------------- in a browser
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-default-apps --disable-extensions --hide-scrollbars --enable-logging=stderr "
    "--allow-file-access-from-files --virtual-time-budget=20000"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Open a file; the DOM or nothing, and what the console said."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    profile = tmp_path_factory.mktemp("profile")

    def load(path, *more):
        switches = [*SWITCHES.split(), f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command = [program, *switches, *(more or ["--dump-dom"]), path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return load


DRIVER = """<!doctype html><meta charset="utf-8"><body><script>
const frame = document.createElement("iframe");
frame.style = "width:WIDTHpx;height:900px;border:0";
frame.src = "page.html";
const out = {};
frame.onload = async () => {
  const page = frame.contentDocument, win = frame.contentWindow;
  const all = (css) => [...page.querySelectorAll(css)];
  const box = (value) => all("#choices input").find((one) => one.value === value);
  const column = (id, k) => all(`#table-${id} tbody tr`).map((row) => row.children[k].innerText);
  const sort = (id, k) => all(`#table-${id} thead th`)[k].querySelector("button").click();
  const sorting = (id, k) => all(`#table-${id} thead th`)[k].getAttribute("aria-sort");
  try { SCRIPT } catch (error) { out.failed = String(error.stack); }
  out.error = page.documentElement.dataset.error ?? null;
  out.drawn = page.documentElement.dataset.drawn ?? null;
  out.width = page.documentElement.scrollWidth;
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = "BEGIN" + btoa(unescape(encodeURIComponent(JSON.stringify(out)))) + "END";
  document.body.append(told);
};
document.body.append(frame);
</script>"""


@pytest.fixture
def drive(tmp_path, chromium):
    """Open a page, let a script press its controls, and give what the script put in `out`."""

    def driven(page, script="", width=1280, *more):
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        driver = tmp_path / "driver.html"
        driver.write_text(DRIVER.replace("WIDTH", str(width)).replace("SCRIPT", script), encoding="utf-8")
        dom, complaints = chromium(driver, "--dump-dom", *more)
        assert complaints == []
        told = json.loads(base64.b64decode(re.search(r"BEGIN([\w+/=]*)END", dom)[1]))
        assert told.get("failed") is None
        assert (told["error"], told["drawn"]) == (None, "yes")
        return told

    return driven


def test_filters_choose_what_is_drawn(drive, page):
    told = drive(
        page,
        """
        const state = () => ({
          shown: page.querySelector("#shown").textContent,
          panels: all("[data-part=attack] .panel").length,
          cells: new Set(column("cells", 0)).size,
          legend: all("[data-part=detection] figure:first-of-type .legend li").map((one) => one.textContent),
          tests: column("tests", 5).filter((name) => name.includes("range_rule")).length,
        });
        out.before = state();
        box("logistic").click(); box("20").click(); box("range_rule").click();
        out.after = state();
        box("mlp").click();
        out.empty = [page.querySelector("#shown").textContent, page.querySelector("[data-part=attack]").innerText];
        """,
    )
    assert told["before"]["shown"] == "40 of 40 groups shown."
    assert (told["before"]["panels"], told["before"]["cells"]) == (8, 2)
    assert "range_rule" in told["before"]["legend"]
    assert told["before"]["tests"] > 0
    assert told["after"]["shown"] == "10 of 40 groups shown."
    assert (told["after"]["panels"], told["after"]["cells"], told["after"]["tests"]) == (2, 1, 0)
    assert "range_rule" not in told["after"]["legend"]
    assert told["empty"] == ["0 of 40 groups shown.", "No finished group is chosen."]


def test_tables_sort_by_header_and_missing_stands_last(drive, page):
    told = drive(
        page,
        """
        out.unsorted = sorting("cells", 10);
        sort("cells", 10); out.falling = [sorting("cells", 10), column("cells", 10)];
        sort("cells", 10); out.rising = [sorting("cells", 10), column("cells", 10)];
        sort("tests", 0); out.words = [sorting("tests", 0), column("tests", 0)];
        out.focusable = all("thead button").every((one) => one.tabIndex === 0 && one.type === "button");
        """,
    )
    assert told["unsorted"] is None
    assert [told[key][0] for key in ("falling", "rising", "words")] == ["descending", "ascending", "ascending"]
    assert told["focusable"]
    for key, way in {"falling": -1, "rising": 1}.items():
        values = [float(text.replace("−", "-")) for text in told[key][1][:-1]]
        assert np.all(way * np.diff(values) >= 0)
        assert len(values) == 119
        assert told[key][1][-1] == "–"
    assert told["words"][1] == sorted(told["words"][1])


def test_a_table_sorted_by_what_a_filter_takes_away_stays_a_table(drive, page):
    told = drive(
        page,
        """
        const last = all("#table-cells thead th").length - 1;
        sort("cells", last);
        const sortedBy = () => all("#table-cells thead th").filter((one) => one.getAttribute("aria-sort"));
        out.before = sortedBy().map((one) => one.innerText);
        box("spectral_signatures").click();
        out.without = [sortedBy().length, column("cells", 4).slice(0, 3)];
        box("spectral_signatures").click();
        out.again = sortedBy().map((one) => one.innerText);
        """,
    )
    assert told["before"] == told["again"] == ["TPR at 1% FPR, spectral_signatures"]
    assert told["without"] == [0, ["42", "43", "44"]], "in the order of the grid"


def test_leaderboard_of_attacks_says_bounds_and_counts_groups_that_failed(drive):
    sweep = make_sweep(models=("mlp",), triggers=("rare_value",), failed=range(12, 15))
    (dose,) = sweep["aggregated"]["doses"]
    dose["effective"] |= {"low": None, "high": None, "bound": "at most"}
    script = """
    out.lines = [];
    const cells = () => all("#table-attacks tbody td").map((one) => one.innerText.replaceAll("\u00a0", " "));
    const line = () => out.lines.push(cells());
    line(); box("range_rule").click(); box("spectral_signatures").click(); line();
    """
    dose["detectors"]["range_rule"]["gap"] |= {"value": None, "low": None, "high": None, "bound": "open"}
    found = drive(build_sweep_page(**sweep), script)["lines"]
    assert found[0][2:4] == [found[0][2], "–"], "the group of the highest rate has no figure"
    assert found[0][6:] == ["≤ 0.2%", "open", "range_rule", "3 of 4"]
    assert found[1][7:] == ["not found", "–", "3 of 4"], "random_filter alone is left"


def test_tooltip_tells_value_interval_and_seeds(drive, sweep, page):
    told = drive(
        page,
        """
        const svg = page.querySelectorAll("[data-part=attack] svg.chart")[1];
        const press = () => svg.dispatchEvent(new win.KeyboardEvent("keydown", { key: "ArrowLeft" }));
        press(); out.last = page.querySelector("#tip").textContent; out.seen = !page.querySelector("#tip").hidden;
        svg.dispatchEvent(new win.Event("blur")); out.hidden = page.querySelector("#tip").hidden;
        const at = svg.querySelector("path[transform]").getBoundingClientRect();
        svg.dispatchEvent(new win.PointerEvent("pointermove", {
          clientX: at.left + at.width / 2, clientY: at.top + at.height / 2,
        }));
        out.pointed = page.querySelector("#tip").textContent;
        """,
    )
    groups = [g for g in sweep["aggregated"]["groups"] if g["parameters"] == {"train.epochs": 10}][:5]
    for text, group in {told["last"]: groups[-1], told["pointed"]: groups[0]}.items():
        lift = group["metrics"]["asr_lift"]
        value, low, high = (f"{lift[key]:.3f}".replace("-", "−") for key in ("mean", "t_low", "t_high"))
        assert f"{value}, 95% interval [{low}, {high}]\n{lift['n']} seeds" in text
    assert told["seen"]
    assert told["hidden"]


def test_null_is_drawn_beside_every_attack_chart(drive, sweep, page):
    told = drive(
        page,
        """
        out.charts = all("[data-part=attack] figure").map((figure) => [
          figure.querySelectorAll("polygon").length, figure.querySelectorAll("svg.chart circle:not(.halo)").length,
        ]);
        """,
    )
    # Of the second series one cell failed. A band at rate 0, left of the break, and one over the other rates.
    whole, lacking = [2, 3 * 5 * 3], [2, 3 * 5 * 3 - 3]
    assert told["charts"] == [whole] * 2 + [lacking] * 2 + [whole] * 12


def test_leaderboard_is_the_mean_over_groups_with_an_interval_over_seeds(drive):
    sweep = make_sweep(models=("mlp",))
    told = drive(build_sweep_page(**sweep), 'out.rows = all("#table-detectors tbody tr").map((row) => row.innerText);')
    rows = [row for row in sweep["rows"] if row["rate"] > 0]
    names = [row.split("\t")[0] for row in told["rows"]]
    values = {name: [r["figures"][f"detect.{name}.tpr_at_1_fpr"] for r in rows] for name in (DETECTOR, "range_rule")}
    assert names[0] == DETECTOR
    assert names[-1].startswith("perfect_filter")
    for name, found in values.items():
        by_seed = np.array(found).reshape(-1, 3).mean(axis=0)
        low, high = stats.t.interval(0.95, 2, by_seed.mean(), stats.sem(by_seed))
        row = told["rows"][names.index(name)].replace("−", "-")
        assert f"{by_seed.mean():.3f} [{low:.3f}, {high:.3f}]" in re.sub(r"\s+", " ", row)
        assert "8 of 8" in row


def test_csv_holds_every_row_in_full(drive, sweep, page):
    told = drive(
        page,
        """
        const blobs = [];
        win.URL.createObjectURL = (blob) => { blobs.push(blob); return "data:,"; };
        win.HTMLAnchorElement.prototype.click = function () { out.name = this.download; };
        all("button.download").forEach((button) => button.click());
        out.texts = await Promise.all(blobs.map((blob) => blob.text()));
        """,
    )
    tables = [list(csv.DictReader(io.StringIO(text))) for text in told["texts"]]
    assert len(tables) == 5
    assert told["name"] == "example_cells.csv"
    cells, tests = tables[-1], tables[3]
    assert len(cells) == len(sweep["rows"])
    assert len(tests) == len(sweep["aggregated"]["tests"])
    for row, cell in zip(sweep["rows"], cells, strict=True):
        assert (cell["model"], float(cell["rate"]), int(cell["seed"])) == (row["model"], row["rate"], row["seed"])
        assert (cell["status"], cell["error"]) == (row["status"], row["error"] or "")
        if row["status"] == "done":
            assert float(cell["lift low"]) == pytest.approx(row["figures"]["asr_lift.low"], rel=1e-4)
            assert float(cell["ASR"]) == pytest.approx(row["figures"]["asr"], rel=1e-4)
    assert [test["figure"] for test in tests] == [test["metric"] for test in sweep["aggregated"]["tests"]]


def test_curves_are_read_as_written(drive, sweep, page):
    told = drive(
        page,
        f"""
        const data = JSON.parse(page.querySelector("#data").textContent);
        out.curve = win.curve(data.groups.roc.{DETECTOR}.poisoned[2]);
        """,
    )
    expected = sweep["aggregated"]["groups"][2]["roc"][DETECTOR]["poisoned"]
    assert [point["x"] for point in told["curve"]] == pytest.approx(np.linspace(0, 1, 101) ** 2)
    assert [point["y"] for point in told["curve"]] == pytest.approx(expected, abs=1 / 8000 + 1e-9)


EMPTY = {
    "no detector and no explanation": {"detectors": (), "explainers": ()},
    "one seed": {"seeds": (42,)},
    "all failed": {"failed": range(60)},
    "one rate": {"rates": (0.02,)},
    "clean only": {"rates": (0.0,)},
    "no retrains": {"nulls": 0},
    "many detectors": {"models": ("mlp",), "detectors": tuple(f"detector_{k}" for k in range(11))},
}


FRAMES = """<!doctype html><meta charset="utf-8"><body><script>
for (const name of NAMES) {
  const frame = document.createElement("iframe");
  frame.src = `${name}.html`;
  frame.style = "width:1280px;height:900px";
  frame.onload = () => {
    const page = frame.contentDocument;
    const drawn = page.documentElement.dataset.drawn;
    page.querySelectorAll("script").forEach((one) => one.remove());
    const wrong = page.body.innerHTML.match(/.{0,60}\\b(?:NaN|undefined|Infinity)\\b.{0,20}/) ?? "nothing";
    frame.title = `${name}: ${drawn}, ${page.documentElement.dataset.error ?? "no error"}, ${wrong}`;
  };
  document.body.append(frame);
}
</script>"""


def test_groups_may_have_run_other_detectors_than_the_rest(drive):
    sweep = make_sweep(models=("mlp", "gbdt"), triggers=("rare_value",))
    for entry in (*sweep["rows"], *sweep["aggregated"]["groups"], *sweep["aggregated"]["doses"]):
        if entry["model"] == "gbdt":
            for key in ("figures", "metrics", "roc", "detectors"):
                kept = {name: value for name, value in entry.get(key, {}).items() if "spectral_signatures" not in name}
                entry.update({key: kept} if key in entry else {})
    told = drive(
        build_sweep_page(**sweep),
        """
        out.lines = all("[data-part=detection] svg.chart").map((one) => one.querySelectorAll("path[transform]").length);
        out.leaders = all("#table-detectors tbody tr").map((row) => row.innerText.split("\\t"));
        """,
    )
    assert told["lines"][0] > told["lines"][1] > 0
    counted = {row[0]: row[-1] for row in told["leaders"]}
    assert (counted["spectral_signatures"], counted["range_rule"]) == ("4 of 8", "8 of 8")


def test_lacking_figures_are_no_error(tmp_path, chromium):
    for name, changes in EMPTY.items():
        (tmp_path / f"{name}.html").write_text(build_sweep_page(**make_sweep(**changes)), encoding="utf-8")
    frames = tmp_path / "frames.html"
    frames.write_text(FRAMES.replace("NAMES", json.dumps(list(EMPTY))), encoding="utf-8")
    dom, complaints = chromium(frames)
    assert complaints == []
    assert re.findall(r'title="([^"]*)"', dom) == [f"{name}: yes, no error, nothing" for name in EMPTY]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows(drive, width):
    sweep = make_sweep(models=("m" * 60,), triggers=("a_trigger_of_a_long_name_" * 3,), detectors=("d" * 50, DETECTOR))
    script = 'all("details").forEach((one) => { one.open = true; });'
    assert drive(build_sweep_page(**sweep), script, width)["width"] == width


def requests(log):
    """Addresses that a page asked for, not the browser of its own accord."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    pages = [one["url"] for one in asked if one["initiator"] != "not an origin"]
    return {address for address in pages if address.startswith(("http", "ws"))}


def test_no_request_leaves(drive, chromium, tmp_path, page):
    log = tmp_path / "net.json"
    switches = (f"--log-net-log={log}", "--net-log-capture-mode=Everything")
    drive(page, 'all("button.download")[0].click();', 1280, *switches)
    assert requests(log) == set()
    leaky = tmp_path / "leaky.html"
    leaky.write_text('<img src="https://fonts.googleapis.com/x.png">', encoding="utf-8")
    chromium(leaky, "--dump-dom", *switches)
    assert requests(log) == {"https://fonts.googleapis.com/x.png"}


def test_a_broken_page_says_so(chromium, tmp_path, page):
    path = tmp_path / "page.html"
    path.write_text(page.replace('"detectors":[', '"detector":[', 1), encoding="utf-8")
    dom, complaints = chromium(path)
    assert complaints
    assert "The page could not draw itself" in dom


def test_page_prints(chromium, tmp_path, page):
    path, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(page, encoding="utf-8")
    _, complaints = chromium(path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert complaints == []
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) > 5


def repeated(sweep, models, triggers):
    """The sweep's one model and trigger under other names."""
    places = [{"model": model, "trigger": trigger} for model in models for trigger in triggers]

    def many(rows):
        return [{**row, **place} for place in places for row in rows]

    aggregated = {key: many(sweep["aggregated"][key]) for key in ("groups", "tests", "doses")}
    axes = {**sweep["aggregated"]["axes"], "models": models, "triggers": triggers}
    return {
        **sweep,
        "aggregated": {**sweep["aggregated"], **aggregated, "axes": axes},
        "rows": many(sweep["rows"]),
        "timings": many(sweep["timings"]),
    }


def test_ten_thousand_cells_build_and_open(drive):
    models, triggers = ([f"{kind}_{k}" for k in range(10)] for kind in ("model", "trigger"))
    one = make_sweep(("mlp",), ("rare_value",), [0.0001 * 1.2**k for k in range(34)], (1, 2, 3))
    sweep = repeated(one, models, triggers)
    assert len(sweep["rows"]) == 10_200
    begun = time.perf_counter()
    page = build_sweep_page(**sweep)
    assert time.perf_counter() - begun < 15
    told = drive(
        page,
        """
        out.shown = page.querySelector("#shown").textContent;
        const begun = performance.now();
        all("#choices fieldset button").filter((one) => one.textContent === "all").forEach((one) => one.click());
        out.all = page.querySelector("#shown").textContent;
        out.rows = all("#table-cells tbody tr").length;
        page.querySelector("[data-part=cells] button.more").click();
        out.more = all("#table-cells tbody tr").length;
        out.panels = all("[data-part=attack] .panel").length;
        """,
    )
    assert told["shown"] == "34 of 3,400 groups shown. Tick more to see more."
    assert told["all"] == "3,400 of 3,400 groups shown."
    assert (told["rows"], told["more"], told["panels"]) == (200, 400, 8)
