// The tables that list, the filters, and the drawing of everything at the start and at each choice.
function perSeed(dose) {
  return Object.entries(dose?.per_seed ?? {}).map(([seed, value]) => `${seed}: ${percent(value)}`).join(", ");
}

function doseColumn(name, get) {
  const column = bounds(name, get, dosePercent);
  return {
    ...column,
    show: (row) => {
      const dose = get(row);
      const shown = element("span", { title: `per seed: ${perSeed(dose) || "none"}` });
      shown.append(!dose || dose.value === null ? NONE : estimate(dose, dosePercent));
      return shown;
    },
    csv: [...column.csv, [`${name} per seed`, (row) => perSeed(get(row))], [`${name} note`, (row) => get(row)?.note]],
  };
}

function drawDoses() {
  const rows = D.doses.filter(named).flatMap((dose) => {
    const told = Object.entries(dose.detectors).filter(([name]) => chosenDetectors().some((d) => d.name === name));
    const detected = told.length ? told : [[null, null]];
    return detected.map(([detector, found]) => ({ dose, detector, found }));
  });
  const notes = ({ dose, found }) => {
    const of = { effective: dose.effective.note, detectable: found?.detectable.note };
    const doses = Object.entries(of).filter(([, note]) => note);
    // A gap lacks what one of its doses lacks: its own note is news where they have none, or where it is a bound.
    const gap = !doses.length || found?.gap.bound ? [["gap", found?.gap.note]] : [];
    const told = [...doses, ...gap].filter(([, note]) => note);
    return told.map(([name, note]) => `${name}: ${note}`).join("; ");
  };
  const gapNote = (row) => row.found?.gap.note;
  table(part("doses"), {
    id: "doses",
    caption: "Poisoning rates, geometric mean over seeds [95% t interval]; gap: detectable over effective",
    rows,
    columns: [
      words("model", (row) => row.dose.model),
      words("trigger", (row) => row.dose.trigger),
      ...parameterColumns((row) => row.dose.set),
      words("detector", (row) => row.detector),
      doseColumn("effective", (row) => row.dose.effective),
      doseColumn("detectable", (row) => row.found?.detectable),
      bounds("gap", (row) => row.found?.gap, (value) => decimal(value, 2)),
      words("notes", (row) => notes(row) || null, { wide: true, note: true, csv: [["gap note", gapNote]] }),
    ],
  });
}

function testRows() {
  const shown = chosenDetectors().map((detector) => `detect.${detector.name}.`);
  const known = D.detectors.map((detector) => `detect.${detector.name}.`);
  const columns = Object.entries(D.tests);
  const rows = D.tests.metric.map((_, k) => Object.fromEntries(columns.map(([key, column]) => [key, column[k]])));
  const of = (row, prefixes) => prefixes.some((prefix) => row.metric.startsWith(prefix));
  return rows.filter((row) => named(row) && (!of(row, known) || of(row, shown)));
}

const FIGURES = { asr: "ASR", asr_lift: "ASR lift", tpr_at_1_fpr: "TPR at 1% FPR" };

function metricName(name) {
  const [, detector, figure] = /^detect\.(.+)\.([^.]+)$/.exec(name) ?? [null, null, name];
  const told = FIGURES[figure] ?? figure;
  return detector ? `${told}, ${detector}` : told;
}

function drawTests() {
  const pColumn = (name, key) => ({ name, get: (row) => row[key], show: (row) => pValue(row[key]) });
  table(part("tests"), {
    id: "tests",
    caption: "Paired t-tests on shared seeds; Holm’s adjustment is within each family, over the whole sweep",
    rows: testRows(),
    columns: [
      words("family", (row) => row.family),
      words("model", (row) => row.model),
      words("trigger", (row) => row.trigger),
      ...parameterColumns((row) => row.set),
      figures("rate", (row) => row.rate, percent),
      words("figure", (row) => row.metric, { show: (row) => metricName(row.metric), wide: true }),
      words("against", (row) => row.against, { wide: true }),
      figures("seeds", (row) => row.n, String),
      estimates("difference", (row) => ({ value: row.difference, low: row.t_low, high: row.t_high })),
      figures("d_z", (row) => row.effect_size, (value) => decimal(value, 2)),
      pColumn("p", "p"),
      pColumn("p (Holm)", "p_holm"),
      words("note", (row) => row.note, { wide: true, note: true }),
    ],
  });
}

function drawCells() {
  const figure = (name) => (c) => D.cells.figures[name][c];
  const status = (c) => (c in D.cells.errors ? "failed" : "done");
  const lift = (c) => {
    const [value, low, high] = ["asr_lift", "asr_lift.low", "asr_lift.high"].map((name) => figure(name)(c));
    return { value, low, high };
  };
  const failed = (c) => element("span", { class: "failed", title: D.cells.errors[c] }, "failed");
  table(part("cells"), {
    id: "cells",
    caption: "Every cell chosen; the lift with its 95% interval over resampled patients",
    rows: passing(D.cells),
    columns: [
      words("model", (c) => D.axes.models[D.cells.model[c]]),
      words("trigger", (c) => D.axes.triggers[D.cells.trigger[c]]),
      ...parameterColumns((c) => D.cells.set[c]),
      figures("rate", (c) => D.cells.rate[c], percent),
      figures("seed", (c) => D.cells.seed[c], String),
      words("status", status, {
        show: (c) => (status(c) === "done" ? "done" : failed(c)),
        csv: [["status", status], ["error", (c) => D.cells.errors[c]]],
      }),
      figures("poisoned stays", figure("poisoned_stays"), (value) => value?.toLocaleString("en-US") ?? NONE),
      figures("ASR", figure("asr")),
      figures("ASR, twin", figure("asr_baseline")),
      estimates("lift", lift),
      figures("AUROC", figure("auroc")),
      figures("AUROC, twin", figure("auroc.baseline")),
      figures("told apart", figure("told_apart")),
      ...chosenDetectors().map(({ name }) => figures(`TPR at 1% FPR, ${name}`, figure(`detect.${name}.tpr_at_1_fpr`))),
    ],
  });
}

// ----------------------------------------------------------------------------------------------- filters
function choice(title, values, picked) {
  const boxes = values.map((value, k) => {
    const box = element("input", { type: "checkbox", name: title, value });
    box.checked = picked.has(k);
    box.addEventListener("change", () => {
      if (box.checked) picked.add(k);
      else picked.delete(k);
      redraw();
    });
    return box;
  });
  const all = (wanted) => {
    const button = element("button", { type: "button", class: "plain" }, wanted ? "all" : "none");
    button.addEventListener("click", () => {
      picked.clear();
      boxes.forEach((box, k) => {
        box.checked = wanted;
        if (wanted) picked.add(k);
      });
      redraw();
    });
    return button;
  };
  const labels = boxes.map((box, k) => element("label", {}, box, values[k]));
  const legend = element("legend", {}, `${title} `, ...(values.length > 2 ? [all(true), all(false)] : []));
  return element("fieldset", {}, legend, element("div", { class: "values" }, ...labels));
}

const OFFERED = [
  ["model", D.axes.models, chosen.model],
  ["trigger", D.axes.triggers, chosen.trigger],
  ["detector", D.detectors.map(called), chosen.detector],
  ...D.axes.parameters.map(({ name, values }, k) => [name, values, chosen.parameters[k]]),
].filter(([, values]) => values.length);

function offerChoices() {
  const form = document.getElementById("choices");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.replaceChildren(...OFFERED.map((one) => choice(...one)));
}

// On paper, where the boxes are not.
function told([title, values, picked]) {
  return `${title}: ${values.filter((_, k) => picked.has(k)).join(", ") || "none"}`;
}

// ---------------------------------------------------------------------------------------------------- all
const OF_GROUPS = ["attack", "clean", "detection", "roc", "plausibility", "tar", "attack-leaders", "detector-leaders"];

function redraw() {
  const planned = passing(D.groups);
  const groups = planned.filter((g) => D.groups.seeds[g] > 0);
  const all = seriesOf(groups);
  const total = D.groups.model.length;
  const first = total > MANY_GROUPS && groups.length < total ? " Tick more to see more." : "";
  const shown = groups.length.toLocaleString("en-US");
  document.getElementById("shown").textContent = `${shown} of ${count(total, "group")} shown.${first}`;
  document.getElementById("chosen").textContent = OFFERED.map(told).join("; ");
  if (groups.length) drawGroups(groups, all, planned);
  else OF_GROUPS.forEach((name) => notice(part(name), "No finished group is chosen."));
  drawDoses();
  drawTests();
  drawTime();
  drawCells();
}

function drawGroups(groups, all, planned) {
  // A group whose cells all failed is one that has no figure, not one that was not there.
  drawDetectorLeaders(planned.filter((g) => D.groups.rate[g] > 0));
  drawAttackLeaders(seriesOf(planned));
  drawAttack(all);
  drawClean(all);
  drawDetection(all);
  drawRoc(all);
  drawPlausibility(groups);
  drawTar(all);
}

offerChoices();
redraw();
document.documentElement.dataset.drawn = "yes";
