// The charts of the detectors, of plausibility against detectability, and of the time that all took.
const look = (detector) => ({ color: COLORS[detector.place % COLORS.length], marker: detector.place });
const called = (detector) => (detector.oracle ? `${detector.name} (oracle)` : detector.name);

function detectionPanel(series) {
  const detectors = chosenDetectors();
  const lines = detectors.flatMap((detector, k) => {
    const shift = 4 * (k - (detectors.length - 1) / 2);
    const base = { ...look(detector), shift };
    const points = (figure, run) =>
      along(`detect.${detector.name}.${figure}`, series.groups, `${called(detector)}\n${run}`);
    return [
      { ...base, points: points("null.tpr_at_1_fpr", "null run"), hollow: true, dashed: true },
      { ...base, points: points("tpr_at_1_fpr", "poisoned run"), label: called(detector) },
    ];
  });
  return chart({
    title: `Detectors' TPR at 1% FPR against rate, ${series.name}`,
    caption: series.name,
    x: rateScale(),
    y: linear(-0.03, 1.03, "TPR at 1% FPR"),
    lines,
    legend: [{ ...DASHED, label: "dashed: its null run" }],
  });
}

function without(name) {
  if (!D.detectors.length) notice(part(name), "No detector ran.");
  else if (!chosen.detector.size) notice(part(name), "No detector is chosen.");
  else return false;
  return true;
}

function drawDetection(all) {
  if (without("detection")) return;
  const host = element("div", { class: "charts two" });
  part("detection").replaceChildren(host);
  panels(host, all, detectionPanel, PANELS);
}

function stretched() {
  const wide = FRAME.right - FRAME.left;
  const ticks = [0, 0.01, 0.05, 0.2, 0.5, 1].map((value) => [value, percent(value)]);
  return { at: (fpr) => FRAME.left + wide * Math.sqrt(fpr), ticks, label: "false positive rate (square root)" };
}

function rocLines(series, detector, groups) {
  const ramp = (k) => (groups.length === 1 ? 100 : Math.round((100 * k) / (groups.length - 1)));
  return groups.flatMap((g, k) => {
    const rate = D.groups.rate[g];
    const color = `color-mix(in oklab, var(--ramp-high) ${ramp(k)}%, var(--ramp-low))`;
    const base = { color, marker: k, thin: true };
    const points = (run, words) => {
      const about = `${called(detector)}, ${words}\nrate ${percent(rate)}, ${count(D.groups.seeds[g], "seed")}`;
      const told = (point) => `${about}\nFPR ${percent(point.x)}, mean TPR ${decimal(point.y)}`;
      return curve(D.groups.roc[detector.name][run][g]).map((point) => ({ ...point, tip: told(point) }));
    };
    return [
      { ...base, points: points("null", "null run"), dashed: true, hollow: true },
      { ...base, points: points("poisoned", "poisoned run"), label: `rate ${percent(rate)}` },
    ].filter((line) => line.points.length);
  });
}

function rocPanel({ series, detector, groups }) {
  return chart({
    title: `ROC of ${detector.name}, ${series.name}`,
    caption: `${called(detector)}: ${series.name}`,
    x: stretched(),
    y: linear(0, 1, "true positive rate"),
    lines: rocLines(series, detector, groups),
    references: [{ axis: "x", value: 0.01 }],
    legend: [{ ...DASHED, label: "dashed: null run" }],
  });
}

function drawRoc(all) {
  if (without("roc")) return;
  const defined = (detector) => (g) => D.groups.roc[detector.name].poisoned[g];
  const of = (series) => (detector) => ({ series, detector, groups: series.groups.filter(defined(detector)) });
  const items = all.flatMap((series) => chosenDetectors().map(of(series))).filter((item) => item.groups.length);
  if (!items.length) return void notice(part("roc"), "No ROC curve is defined: nothing was poisoned.");
  const host = element("div", { class: "charts" });
  part("roc").replaceChildren(host);
  panels(host, items, rocPanel, 12);
}

// ------------------------------------------------------------------------------- plausibility, detectability
const HIGH_LIFT = 0.5;
let judge = "";

function detectability(g, detectors) {
  const found = detectors.map((detector) => ({ detector, ...metric(`detect.${detector.name}.tpr_at_1_fpr`, g) }));
  return found.filter((one) => one.value !== null).sort((a, b) => b.value - a.value)[0];
}

function scatterPoints(groups, detectors) {
  return groups.flatMap((g) => {
    const [plain, best, lift] = [metric("told_apart", g), detectability(g, detectors), metric("asr_lift", g)];
    if (plain.value === null || !best) return [];
    const told = (words, figure) => `${words} ${decimal(figure.value)} ${interval(figure.low, figure.high)}`;
    const tip = [
      seriesName(g),
      `rate ${percent(D.groups.rate[g])}, ${count(D.groups.seeds[g], "seed")}`,
      told("told apart", plain),
      told(`${best.detector.name}: TPR at 1% FPR`, best),
      told("lift", lift),
    ];
    return [{
      x: plain.value, left: plain.low, right: plain.high, y: best.value, low: best.low, high: best.high,
      trigger: D.groups.trigger[g], hollow: !(lift.value >= HIGH_LIFT), tip: tip.join("\n"),
    }];
  });
}

function drawPlausibility(groups) {
  if (without("plausibility")) return;
  const offered = chosenDetectors().filter((detector) => !detector.oracle);
  if (!offered.some((detector) => detector.name === judge)) judge = "";
  const best = element("option", { value: "" }, "the best of those chosen, in each group");
  const picker = element("select", { id: "judge" }, best);
  for (const { name } of offered) picker.append(element("option", { value: name }, name));
  picker.value = judge;
  picker.addEventListener("change", () => {
    judge = picker.value;
    drawPlausibility(groups);
    document.getElementById("judge").focus();
  });
  const tools = element("p", { class: "tools" }, element("label", {}, "Detector: ", picker));
  const judges = offered.filter(({ name }) => !judge || name === judge);
  const points = scatterPoints(groups.filter((g) => D.groups.rate[g] > 0), judges);
  const none = element("p", { class: "hint empty" }, "No group has both figures.");
  part("plausibility").replaceChildren(tools, points.length ? scatter(points) : none);
}

function scatter(points) {
  const lines = D.axes.triggers.map((label, k) => ({
    ...{ label, color: COLORS[k % COLORS.length], marker: k, loose: true },
    points: points.filter((point) => point.trigger === k),
  }));
  const across = span(within(0, 1, points.flatMap((point) => [point.x, point.left, point.right])), 0.5, 1);
  const up = span(within(0, 1, points.flatMap((point) => [point.y, point.low, point.high])), 0, 1);
  const drawn = chart({
    title: "Plausibility against detectability",
    x: linear(...across, "told apart (AUROC; 0.5 = invisible)", FRAME.left, FRAME.right - 10),
    y: linear(...up, "TPR at 1% FPR"),
    lines: lines.filter((line) => line.points.length),
  });
  return element("div", { class: "charts one" }, drawn);
}

// -------------------------------------------------------------------------------------------------- time
function timePanel({ model, stages }) {
  const top = Math.max(...stages.map((one) => one.median), 1e-9);
  const svg = document.createElementNS(SVG, "svg");
  const tall = 34 * stages.length + 6;
  const words = stages.map((one) => `${one.stage}: median ${duration(one.median)}`).join("; ");
  const box = { viewBox: `0 0 ${WIDTH} ${tall}`, class: "chart", role: "img", tabindex: "0", "aria-label": words };
  for (const [name, value] of Object.entries(box)) svg.setAttribute(name, value);
  const points = [];
  stages.forEach((one, k) => {
    const y = 34 * k;
    write(svg, 2, y + 13, one.stage, "start");
    write(svg, WIDTH - 2, y + 13, `median ${duration(one.median)}; total ${duration(one.total)}`, "end");
    const width = Math.max(1, ((WIDTH - 4) * one.median) / top);
    draw(svg, "rect", { x: 2, y: y + 18, width, height: 9, class: "bar" });
    const middle = `median ${duration(one.median)} of ${count(one.cells, "cell")}`;
    points.push({ px: 20, py: y + 22, tip: `${one.stage}\n${middle}\ntotal ${duration(one.total)}` });
  });
  listen(svg, points);
  const total = stages.reduce((sum, one) => sum + one.total, 0);
  return element("figure", {}, svg, element("figcaption", {}, `${model}: ${duration(total)} in all`));
}

function drawTime() {
  const shown = D.times.filter(({ model }) => chosen.model.has(D.axes.models.indexOf(model)));
  if (!shown.length) return void notice(part("time"), "No time was taken.");
  const host = element("div", { class: "charts two" });
  part("time").replaceChildren(host);
  panels(host, shown, timePanel, PANELS);
}
