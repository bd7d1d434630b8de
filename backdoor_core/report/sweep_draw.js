// Charts as SVG: axes, lines with intervals, bands, clouds, and what the pointer or the keyboard asks of them.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 420;
const HEIGHT = 280;
const FRAME = { left: 64, right: 398, top: 12, bottom: 232 };
const COLORS = ["--s0", "--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7"].map((name) => `var(${name})`);
const POISONED = "var(--poisoned)";
const TWIN = "var(--twin)";
const NULL = "var(--null)";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function draw(parent, tag, attributes = {}, style = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  parent.append(made);
  return made;
}

function write(parent, x, y, text, anchor = "middle", attributes = {}) {
  draw(parent, "text", { x, y, "text-anchor": anchor, ...attributes }).textContent = text;
}

// ----------------------------------------------------------------------------------------------- markers
const ring = (r, corners, turn) =>
  Array.from({ length: corners }, (_, k) => {
    const angle = turn + (2 * Math.PI * k) / corners;
    return `${k ? "L" : "M"}${(r * Math.cos(angle)).toFixed(2)},${(r * Math.sin(angle)).toFixed(2)}`;
  }).join("") + "Z";
const MARKERS = [
  "M-4,0A4,4 0 1 0 4,0A4,4 0 1 0 -4,0Z",
  "M-3.6,-3.6H3.6V3.6H-3.6Z",
  ring(5, 3, -Math.PI / 2),
  ring(5, 4, 0),
  ring(5, 3, Math.PI / 2),
  "M-1.4,-4.6H1.4V-1.4H4.6V1.4H1.4V4.6H-1.4V1.4H-4.6V-1.4H-1.4Z",
  ring(4.8, 5, -Math.PI / 2),
  ring(4.6, 6, 0),
];

function mark(parent, x, y, { marker, color, hollow }) {
  const at = { d: MARKERS[marker % MARKERS.length], transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` };
  draw(parent, "path", at, { fill: hollow ? "var(--paper)" : color, stroke: color, "stroke-width": "1.4" });
}

// ------------------------------------------------------------------------------------------------ scales
// Logarithmic in the rate; a rate of 0 stands left of a break.
function rateScale() {
  const rates = [...new Set(D.axes.rates)].sort((a, b) => a - b);
  const positive = rates.filter((rate) => rate > 0);
  const broken = rates[0] === 0 && positive.length > 0;
  const from = FRAME.left + (broken ? 62 : 24);
  const to = FRAME.right - 24;
  const [low, high] = [Math.log(positive[0]), Math.log(positive.at(-1))];
  const at = (rate) => {
    if (rate === 0) return broken ? FRAME.left + 16 : (from + to) / 2;
    return high > low ? from + ((to - from) * (Math.log(rate) - low)) / (high - low) : (from + to) / 2;
  };
  const ticks = [];
  for (const rate of rates) {
    const crowded = ticks.length && at(rate) - at(ticks.at(-1)) < 42;
    if (!crowded) ticks.push(rate);
    else if (rate === rates.at(-1)) ticks.splice(-1, 1, rate);
  }
  return {
    at,
    broken,
    from: FRAME.left,
    ticks: ticks.map((rate) => [rate, rate === 0 ? "0" : percent(rate)]),
    label: `poisoned share of the training stays${positive.length > 1 ? " (log)" : ""}`,
  };
}

function linear(low, high, label, from = FRAME.bottom, to = FRAME.top) {
  const step = niceStep((high - low) / 6);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return {
    // What lies beyond, such as the end of a wide interval, is drawn at the edge.
    at: (value) => from + ((to - from) * (Math.min(high, Math.max(low, value)) - low)) / (high - low),
    ticks: ticks.map((value) => [value, decimal(value, places)]),
    label,
    low,
    high,
  };
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

// Limits that hold all values, the floor and the ceiling too where they are given, with some room.
function span(values, floor = null, ceiling = null) {
  const known = [...values, floor, ceiling].filter((value) => value !== null && value !== undefined);
  if (!known.length) return [0, 1];
  const [low, high] = known.reduce(([l, h], value) => [Math.min(l, value), Math.max(h, value)], [Infinity, -Infinity]);
  const room = Math.max(0.04 * (high - low), 0.005);
  return [low === floor ? low : low - room, high === ceiling ? high : high + room];
}

// ------------------------------------------------------------------------------------------------- charts
// x and y are scales; lines, bands and clouds are drawn over one another; each point may have low, high and a tip.
function chart({ title, caption, x, y, lines = [], bands = [], clouds = [], references = [], legend = [] }) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    class: "chart",
    role: "img",
    tabindex: "0",
    "aria-label": `${title}. Arrow keys read the points out.`,
  })) svg.setAttribute(name, value);
  const points = [];
  axes(svg, x, y, references);
  for (const band of bands) drawBand(svg, band, x, y);
  for (const cloud of clouds) drawCloud(svg, cloud, x, y, points);
  for (const line of lines) drawLine(svg, line, x, y, points);
  listen(svg, points);
  const figure = element("figure", {}, svg);
  const told = [...bands, ...clouds, ...lines].filter((layer) => layer.label).concat(legend);
  if (told.length) figure.append(legendOf(told));
  if (caption) figure.append(element("figcaption", {}, caption));
  return figure;
}

function axes(svg, x, y, references) {
  for (const [value, text] of y.ticks) {
    draw(svg, "line", { x1: FRAME.left, x2: FRAME.right, y1: y.at(value), y2: y.at(value), class: "grid" });
    write(svg, FRAME.left - 6, y.at(value) + 4.5, text, "end");
  }
  for (const [value, text] of x.ticks) {
    draw(svg, "line", { x1: x.at(value), x2: x.at(value), y1: FRAME.bottom, y2: FRAME.bottom + 4, class: "axis" });
    write(svg, x.at(value), FRAME.bottom + 17, text);
  }
  draw(svg, "path", { d: `M${FRAME.left},${FRAME.top}V${FRAME.bottom}H${FRAME.right}`, class: "axis" });
  if (x.broken) {
    const at = FRAME.left + 36;
    draw(svg, "rect", { x: at - 2, y: FRAME.bottom - 3, width: 5, height: 6 }, { fill: "var(--paper)" });
    for (const shift of [-2, 3]) {
      draw(svg, "path", { d: `M${at + shift - 2},${FRAME.bottom + 5}l4,-10`, class: "axis" });
    }
  }
  for (const { axis, value } of references) {
    const at = axis === "y" ? y.at(value) : x.at(value);
    const d = axis === "y" ? `M${FRAME.left},${at}H${FRAME.right}` : `M${at},${FRAME.top}V${FRAME.bottom}`;
    draw(svg, "path", { d, class: "reference" });
  }
  write(svg, (FRAME.left + FRAME.right) / 2, HEIGHT - 8, x.label);
  const middle = (FRAME.top + FRAME.bottom) / 2;
  write(svg, 13, middle, y.label, "middle", { transform: `rotate(-90 13 ${middle})` });
}

// Runs of points that belong together: a missing value or the break of the axis ends one.
function runs(points, x, known) {
  const found = [[]];
  for (const point of points) {
    if (!known(point)) found.push([]);
    else found.at(-1).push(point);
    if (x.broken && point.x === 0) found.push([]);
  }
  return found.filter((run) => run.length);
}

function drawBand(svg, band, x, y) {
  const known = (point) => point.low !== null && point.high !== null;
  for (const run of runs(band.points, x, known)) {
    const wide = run.length > 1 ? [0, 0] : [-11, 11];
    const ends = run.length > 1 ? run : [run[0], run[0]];
    const place = (point, k) => x.at(point.x) + (run.length > 1 ? 0 : wide[k]);
    const upper = ends.map((point, k) => `${place(point, k)},${y.at(point.high)}`);
    const lower = ends.map((point, k) => `${place(point, k)},${y.at(point.low)}`).reverse();
    draw(svg, "polygon", { points: [...upper, ...lower].join(" ") }, { fill: band.color, "fill-opacity": "0.2" });
  }
}

function drawCloud(svg, cloud, x, y, points) {
  for (const point of cloud.points) {
    const [px, py] = [x.at(point.x) + (cloud.shift ?? 0), y.at(point.y)];
    draw(svg, "circle", { cx: px, cy: py, r: 1.8 }, { fill: cloud.color, "fill-opacity": "0.75" });
    points.push({ px, py, tip: point.tip });
  }
}

function drawLine(svg, line, x, y, points) {
  const shift = line.shift ?? 0;
  const place = (point) => [x.at(point.x) + shift, y.at(point.y)];
  for (const run of line.loose ? [] : runs(line.points, x, (point) => point.y !== null)) {
    const path = run.map((point) => place(point).map((v) => v.toFixed(1)).join(",")).join(" ");
    draw(svg, "polyline", { points: path }, { fill: "none", ...stroke(line) });
  }
  line.points.forEach((point, k) => {
    if (point.y === null) return;
    const [px, py] = place(point);
    whiskers(svg, point, px, py, x, y, line.color);
    // A curve of many points is marked here and there, each curve at other places.
    const marked = !line.thin || k % 25 === (line.marker * 5) % 25;
    if (marked) mark(svg, px, py, { ...line, hollow: point.hollow ?? line.hollow });
    points.push({ px, py, tip: point.tip });
  });
}

function stroke(line) {
  const dash = line.dashed ? { "stroke-dasharray": "5 4" } : {};
  return { stroke: line.color, "stroke-width": line.thin ? "1.3" : "1.7", ...dash };
}

function whiskers(svg, point, px, py, x, y, color) {
  const style = { stroke: color, "stroke-width": "1.2", "stroke-opacity": "0.75", fill: "none" };
  if (typeof point.low === "number" && typeof point.high === "number") {
    const [low, high] = [y.at(Math.max(point.low, y.low)), y.at(Math.min(point.high, y.high))];
    draw(svg, "path", { d: `M${px},${low}V${high}M${px - 3},${low}h6M${px - 3},${high}h6` }, style);
  }
  if (typeof point.left === "number" && typeof point.right === "number") {
    const [left, right] = [x.at(Math.max(point.left, x.low)), x.at(Math.min(point.right, x.high))];
    draw(svg, "path", { d: `M${left},${py}H${right}` }, style);
  }
}

function legendOf(layers) {
  const list = element("ul", { class: "legend" });
  for (const layer of layers) {
    const swatch = document.createElementNS(SVG, "svg");
    swatch.setAttribute("viewBox", "0 0 32 14");
    swatch.setAttribute("aria-hidden", "true");
    if (layer.points && layer.marker === undefined) {
      draw(swatch, "rect", { x: 2, y: 2, width: 28, height: 10 }, { fill: layer.color, "fill-opacity": "0.25" });
      draw(swatch, "circle", { cx: 16, cy: 7, r: 1.8 }, { fill: layer.color });
    } else {
      if (!layer.loose) draw(swatch, "line", { x1: 0, x2: 32, y1: 7, y2: 7 }, stroke(layer));
      if (layer.marker !== undefined) mark(swatch, 16, 7, layer);
    }
    list.append(element("li", {}, swatch, layer.label));
  }
  return list;
}
