// Tables: sorted by their headers, drawn a part at a time, and downloaded whole as CSV.
const ROWS_AT_ONCE = 200;
const sorted = new Map();

// A column has a name, get (what it is sorted by and, if csv is not given, exported as) and show (text or a node).
function table(host, { id, caption, columns, rows, aside = () => false }) {
  if (!rows.length) return notice(host, "Nothing to show.");
  const head = element("tr");
  const body = element("tbody");
  const more = element("button", { type: "button", class: "more" });
  const state = { rows, drawn: 0 };
  const advance = () => {
    const next = state.rows.slice(state.drawn, state.drawn + ROWS_AT_ONCE);
    body.append(...next.map((row) => tableRow(columns, row, aside(row))));
    state.drawn += next.length;
    more.textContent = `Show more (${(rows.length - state.drawn).toLocaleString("en-US")} rows left)`;
    more.hidden = state.drawn >= rows.length;
  };
  const refresh = () => {
    state.rows = inOrder(rows, columns, sorted.get(id));
    state.drawn = 0;
    body.replaceChildren();
    markHeaders(head, columns, sorted.get(id));
    advance();
  };
  columns.forEach((column) => head.append(header(column, id, refresh)));
  more.addEventListener("click", advance);
  const download = element("button", { type: "button", class: "download" }, "Download CSV");
  download.addEventListener("click", () => save(`${D.name}_${id}.csv`, csv(columns, state.rows)));
  const attributes = { class: "sortable", id: `table-${id}`, "aria-labelledby": `caption-${id}` };
  const grid = element("table", attributes, element("thead", {}, head), body);
  refresh();
  return host.replaceChildren(
    element("p", { class: "hint", id: `caption-${id}` }, caption),
    element("div", { class: "tools" }, download, element("span", { class: "hint" }, count(rows.length, "row"))),
    element("div", { class: "scroll" }, grid),
    more,
  );
}

// What a table is sorted by is remembered by name: the filters take columns away and bring them back.
function header(column, id, refresh) {
  const button = element("button", { type: "button" }, column.name);
  button.addEventListener("click", () => {
    const last = sorted.get(id);
    // Numbers are mostly wanted from the top.
    const first = column.words ? 1 : -1;
    sorted.set(id, { name: column.name, way: last && last.name === column.name ? -last.way : first });
    refresh();
  });
  return element("th", { scope: "col", ...(column.words ? { class: "words" } : {}) }, button);
}

function markHeaders(head, columns, order) {
  [...head.children].forEach((cell, k) => {
    if (order && order.name === columns[k].name) cell.setAttribute("aria-sort", order.way > 0 ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

// What does not exist stands last, whichever way.
function inOrder(rows, columns, order) {
  const column = columns.find(({ name }) => name === order?.name);
  if (!column) return rows;
  const { get } = column;
  const missing = (value) => value === null || value === undefined || value === "";
  return rows
    .map((row, place) => ({ row, place, value: get(row) }))
    .sort((a, b) => {
      if (missing(a.value) || missing(b.value)) return missing(a.value) - missing(b.value) || a.place - b.place;
      const less = typeof a.value === "string" ? a.value.localeCompare(b.value, "en") : a.value - b.value;
      return order.way * less || a.place - b.place;
    })
    .map(({ row }) => row);
}

function tableRow(columns, row, aside) {
  const cells = columns.map((column) => {
    const shown = column.show ? column.show(row) : (column.get(row) ?? NONE);
    const kind = ["words", "wide", "note"].filter((name) => column[name]).join(" ");
    return element("td", kind ? { class: kind } : {}, shown);
  });
  return element("tr", aside ? { class: "aside" } : {}, ...cells);
}

function csv(columns, rows) {
  const fields = columns.flatMap((column) => column.csv ?? [[column.name, column.get]]);
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [fields.map(([name]) => name), ...rows.map((row) => fields.map(([, get]) => get(row)))];
  return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// ----------------------------------------------------------------------------------------------- columns
function words(name, get, more = {}) {
  return { name, get, words: true, ...more };
}

function figures(name, get, format = decimal) {
  return { name, get, show: (row) => format(get(row)) };
}

// A value and its interval, three columns of the CSV.
function estimates(name, get, format = decimal) {
  return {
    name,
    get: (row) => get(row)?.value ?? null,
    show: (row) => {
      const found = get(row);
      if (!found || found.value === null) return found?.bound ?? NONE;
      return estimate(found, format);
    },
    csv: [
      [name, (row) => get(row)?.value],
      [`${name} low`, (row) => get(row)?.low],
      [`${name} high`, (row) => get(row)?.high],
    ],
  };
}

// The same of what may be a bound, which the CSV says in a column of its own.
function bounds(name, get, format = decimal) {
  const column = estimates(name, get, format);
  return { ...column, csv: [...column.csv, [`${name} bound`, (row) => get(row)?.bound]] };
}

const BOUNDS = { "at most": "≤\u00a0", "at least": "≥\u00a0" };

function estimate(found, format) {
  const value = `${BOUNDS[found.bound] ?? ""}${format(found.value)}`;
  const node = element("span", {}, element("span", { class: "value" }, value));
  const limits = interval(found.low, found.high, format);
  if (limits) node.append(" ", element("span", { class: "interval" }, limits));
  return node;
}

function parameterColumns(set) {
  return D.axes.parameters.map(({ name }, k) => words(name, (row) => setValues(set(row))[k]));
}

// -------------------------------------------------------------------------------------------- leaderboards
function drawDetectorLeaders(groups) {
  if (without("detector-leaders")) return;
  const rows = chosenDetectors().map((detector) => {
    const over = (figure) => overGroups(`detect.${detector.name}.${figure}`, groups);
    const [tpr, none] = [over("tpr_at_1_fpr"), over("null.tpr_at_1_fpr")];
    return { detector, tpr, none, auroc: over("auroc"), fpr: over("null.calibrated.fpr") };
  });
  rows.sort((a, b) => a.detector.oracle - b.detector.oracle || (b.tpr.value ?? -1) - (a.tpr.value ?? -1));
  const name = (row) => row.detector.name;
  const oracle = (row) => Number(row.detector.oracle);
  const title = (row) => {
    const told = { class: "oracle", title: "made with the truth, which no real defender has" };
    return element("span", {}, name(row), ...(row.detector.oracle ? [" ", element("span", told, "oracle")] : []));
  };
  table(part("detector-leaders"), {
    id: "detectors",
    caption: "Detectors, over the poisoned groups chosen",
    rows,
    aside: (row) => row.detector.oracle,
    columns: [
      words("detector", name, { show: title, csv: [["detector", name], ["oracle", oracle]] }),
      estimates("TPR at 1% FPR", (row) => row.tpr),
      estimates("same, null run", (row) => row.none),
      estimates("AUROC", (row) => row.auroc),
      estimates("calibrated FPR on null", (row) => row.fpr),
      { name: "groups", get: (row) => row.tpr.groups, show: (row) => `${row.tpr.groups} of ${row.tpr.of}` },
    ],
  });
}

const dosePercent = (rate) => (rate > 1 ? ">100%" : percent(rate));

// Of the chosen detectors; one whose gap is open may have the smallest. Where none finds the attack, that is said.
function smallestGap(dose) {
  const shown = new Set(chosenDetectors().map((detector) => detector.name));
  const gaps = Object.entries(dose?.detectors ?? {})
    .filter(([name]) => shown.has(name))
    .map(([detector, { gap }]) => ({ ...gap, detector }));
  const open = gaps.filter((gap) => gap.bound === "open");
  if (open.length) return { ...open[0], detector: open.map((gap) => gap.detector).join(", ") };
  const known = gaps.filter((gap) => gap.value !== null).sort((a, b) => a.value - b.value);
  if (known.length) return known[0];
  const missed = gaps.length && gaps.every((gap) => gap.bound === "not found");
  return missed ? { ...gaps[0], detector: null } : null;
}

function drawAttackLeaders(all) {
  const doseOf = new Map(D.doses.map((dose) => [`${dose.model}/${dose.trigger}/${dose.set}`, dose]));
  const rows = all.flatMap((series) => {
    const groups = series.groups.filter((g) => D.groups.rate[g] > 0);
    if (!groups.length) return [];
    const dose = doseOf.get(`${D.axes.models[series.model]}/${D.axes.triggers[series.trigger]}/${series.set}`);
    const [lift, told, change] = ["asr_lift", "told_apart", "auroc_change"].map((name) => overGroups(name, groups));
    const top = metric("asr_lift", groups.at(-1));
    return [{ series, lift, top, told, change, dose: dose?.effective, gap: smallestGap(dose) }];
  });
  rows.sort((a, b) => (b.lift.value ?? -9) - (a.lift.value ?? -9));
  const gapColumn = bounds("smallest gap", (row) => row.gap, (value) => decimal(value, 2));
  table(part("attack-leaders"), {
    id: "attacks",
    caption: "Attacks, over their poisoned groups; a gap above 1 means that the attack works before it is found",
    rows,
    columns: [
      words("model", (row) => D.axes.models[row.series.model]),
      words("trigger", (row) => D.axes.triggers[row.series.trigger]),
      ...parameterColumns((row) => row.series.set),
      estimates("mean lift", (row) => row.lift),
      estimates("lift at the highest rate", (row) => row.top),
      estimates("told apart", (row) => row.told),
      estimates("AUROC change", (row) => row.change),
      bounds("effective dose", (row) => row.dose, dosePercent),
      gapColumn,
      words("its detector", (row) => row.gap?.detector ?? null),
      { name: "groups", get: (row) => row.lift.groups, show: (row) => `${row.lift.groups} of ${row.lift.of}` },
    ],
  });
}
