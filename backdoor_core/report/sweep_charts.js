// The charts of each section, from the groups that the filters chose.
const part = (name) => document.querySelector(`[data-part="${name}"]`);
const PANELS = 8;
const OVERLAID = 4;
const DASHED = { color: "var(--neutral)", marker: 0, hollow: true, dashed: true };

function tip(name, rate, figure, format = decimal) {
  const spread = figure.low === null ? "no interval" : `95% interval ${interval(figure.low, figure.high, format)}`;
  return `${name}\nrate ${percent(rate)}\n${format(figure.value)}, ${spread}\n${count(figure.n, "seed")}`;
}

// A figure of the groups along the rate.
function along(name, groups, words) {
  return groups.map((g) => {
    const [rate, figure] = [D.groups.rate[g], metric(name, g)];
    return { x: rate, y: figure.value, low: figure.low, high: figure.high, tip: tip(words, rate, figure) };
  });
}

const reach = (lines) => lines.flatMap((line) => line.points.flatMap((point) => [point.y, point.low, point.high]));

// ------------------------------------------------------------------------------------------------ attack
// ASR of every clean retrain: what its cell's twin has, and its lift above that.
function retrainAsr(g) {
  const asr = D.cells.figures.asr_baseline;
  return CELLS[g].flatMap((c) => (asr[c] === null ? [] : D.cells.null_lift[c].map((lift) => [c, asr[c] + lift])));
}

function retrainLift(g) {
  return CELLS[g].flatMap((c) => D.cells.null_lift[c].map((lift) => [c, lift]));
}

function nullCloud(groups, values, words) {
  const points = groups.flatMap((g) =>
    values(g).map(([c, value]) => {
      const rate = D.groups.rate[g];
      const told = `clean retrain, ${words}\nrate ${percent(rate)}\n${decimal(value)}\nseed ${D.cells.seed[c]}`;
      return { x: rate, y: value, tip: told };
    }),
  );
  return { points, color: NULL, shift: 9 };
}

function nullBand(groups, { low, high }) {
  const points = groups.map((g) => ({ x: D.groups.rate[g], low: low[g], high: high[g] }));
  return { points, color: NULL, label: "clean retrains (null): middle 95%, each" };
}

// Intervals over few seeds reach beyond what is possible; what lies there is drawn at the edge.
const within = (low, high, values) =>
  values.map((value) => (value === null || value === undefined ? value : Math.min(high, Math.max(low, value))));

function liftLimits(groups) {
  const values = groups.flatMap((g) => {
    const lift = metric("asr_lift", g);
    return [lift.value, lift.low, lift.high, D.groups.null_lift.low[g], ...retrainLift(g).map(([, value]) => value)];
  });
  return span(within(-1, 1, values), null, 1);
}

function attackPanels(series, liftSpan) {
  const { groups } = series;
  const pair = element("div", { class: "charts two" });
  const [twin, mine] = [along("asr_baseline", groups, "ASR, clean twin"), along("asr", groups, "ASR, poisoned model")];
  const lines = [
    { points: twin, color: TWIN, marker: 1, hollow: true, dashed: true, shift: -6, label: "clean twin" },
    { points: mine, color: POISONED, marker: 0, label: "poisoned model" },
  ];
  const x = rateScale();
  pair.append(
    chart({
      title: `ASR against rate, ${series.name}`,
      caption: `Attack success rate, ${series.name}`,
      x,
      y: linear(-0.03, 1.03, "ASR"),
      lines,
      bands: [nullBand(groups, D.groups.null_asr)],
      clouds: [nullCloud(groups, retrainAsr, "ASR")],
    }),
    chart({
      title: `ASR lift against rate, ${series.name}`,
      caption: `Lift: poisoned model less clean twin, ${series.name}`,
      x,
      y: linear(...liftSpan, "ASR lift"),
      lines: [{ points: along("asr_lift", groups, "ASR lift"), color: POISONED, marker: 0, label: "lift" }],
      bands: [nullBand(groups, D.groups.null_lift)],
      clouds: [nullCloud(groups, retrainLift, "lift")],
      references: [{ axis: "y", value: 0 }],
    }),
  );
  return element("div", { class: "panel" }, element("h3", { class: "series" }, series.name), pair);
}

function drawAttack(all) {
  const limits = liftLimits(all.flatMap((series) => series.groups));
  panels(part("attack"), all, (series) => attackPanels(series, limits), PANELS);
}

// ------------------------------------------------------------------- figures of both models, series overlaid
function pairLines(figure, members) {
  return members.flatMap((series, k) => {
    const [color, twin] = members.length > 1 ? [COLORS[k], COLORS[k]] : [POISONED, TWIN];
    const [mine, its] = members.length > 1 ? [series.name, undefined] : ["poisoned model", "clean twin"];
    const shift = 4 * (k - (members.length - 1) / 2);
    const points = (name, words) => along(name, series.groups, `${series.name}\n${words}`);
    const hollow = { marker: members.length > 1 ? k : 1, hollow: true, dashed: true };
    return [
      { points: points(`${figure}.baseline`, "clean twin"), color: twin, ...hollow, shift: shift - 2, label: its },
      { points: points(figure, "poisoned model"), color, marker: k, shift, label: mine },
    ];
  });
}

function pairChart({ figure, label, limits }, members) {
  const lines = pairLines(figure, members);
  return chart({
    title: `${label} against rate`,
    caption: members.length === 1 ? `${label}, ${members[0].name}` : label,
    x: rateScale(),
    y: linear(...limits, label),
    lines,
    legend: members.length > 1 ? [{ ...DASHED, label: "dashed: its clean twin" }] : [],
  });
}

// Figures are [name, label, floor]; charts of one figure share their limits.
function drawPairs(name, all, figures) {
  const drawn = figures.map(([figure, label, floor]) => ({
    figure,
    label,
    limits: span(within(0, 1, all.flatMap((series) => reach(pairLines(figure, [series])))), floor),
  }));
  panels(
    part(name),
    chunks(all, OVERLAID),
    (members) => element("div", { class: "charts panel" }, ...drawn.map((one) => pairChart(one, members))),
    2,
  );
}

const drawClean = (all) =>
  drawPairs("clean", all, [
    ["auroc", "AUROC", null],
    ["auprc", "AUPRC", null],
    ["ece", "expected calibration error", 0],
  ]);

function drawTar(all) {
  if (!D.explainers.length) return notice(part("tar"), "No explanation ran: there is no attribution ratio.");
  return drawPairs("tar", all, D.explainers.map((name) => [`tar.${name}`, `TAR, ${name}`, 0]));
}
