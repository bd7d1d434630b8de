"use strict";
// The data as the page holds it: columns of groups (cells that differ in the seed alone) and of cells.

function complain(message) {
  const place = document.getElementById("broken");
  document.documentElement.dataset.error = message;
  place.textContent = `The page could not draw itself: ${message}`;
  place.hidden = false;
}
window.addEventListener("error", (event) => complain(event.message));

const D = JSON.parse(document.getElementById("data").textContent);
const MINUS = "\u2212";
const NONE = "\u2013";

// ------------------------------------------------------------------------------------------------- words
function decimal(value, places = 3) {
  if (value === null || value === undefined) return NONE;
  const text = value.toFixed(places);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
}

function percent(rate) {
  return rate === null || rate === undefined ? NONE : `${Number((100 * rate).toPrecision(3))}%`;
}

function interval(low, high, format = decimal) {
  const known = (limit) => limit !== null && limit !== undefined;
  return known(low) && known(high) ? `[${format(low)}, ${format(high)}]` : "";
}

function pValue(value) {
  if (value === null) return NONE;
  return value < 0.001 ? "<0.001" : decimal(value);
}

function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 3600) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number((seconds / 3600).toPrecision(3)).toLocaleString("en-US")} h`;
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`;
}

// What a series is called by; a parameter that it leaves alone says nothing.
function setName(set) {
  const values = setValues(set);
  const named = D.axes.parameters.map(({ name }, k) => (values[k] === D.as_given ? "" : `${name} = ${values[k]}`));
  return named.filter(Boolean).join(", ");
}

function setValues(set) {
  return D.axes.parameters.map((parameter, k) => parameter.values[D.sets[set][k]]);
}

// ----------------------------------------------------------------------------------------------- filters
const MANY_GROUPS = 40;
const everything = (values) => new Set(values.map((_, k) => k));
const chosen = {
  model: everything(D.axes.models),
  trigger: everything(D.axes.triggers),
  detector: everything(D.detectors),
  parameters: D.axes.parameters.map((parameter) => everything(parameter.values)),
};
if (D.groups.model.length > MANY_GROUPS) {
  chosen.model = new Set([0]);
  chosen.trigger = new Set([0]);
  const left = D.groups.model.filter((model, k) => model === 0 && D.groups.trigger[k] === 0).length;
  if (left > MANY_GROUPS) chosen.parameters = D.axes.parameters.map(() => new Set([0]));
}

function setChosen(set) {
  return D.sets[set].every((value, k) => chosen.parameters[k].has(value));
}

function passing(columns) {
  const fitting = D.sets.map((_, set) => setChosen(set));
  const found = [];
  for (let k = 0; k < columns.model.length; k++) {
    const both = chosen.model.has(columns.model[k]) && chosen.trigger.has(columns.trigger[k]);
    if (both && fitting[columns.set[k]]) found.push(k);
  }
  return found;
}

// Tests and doses name model and trigger; a name that is no value of the axis, of a pair of models say, always passes.
function named(row) {
  const model = D.axes.models.indexOf(row.model);
  const trigger = D.axes.triggers.indexOf(row.trigger);
  return (model < 0 || chosen.model.has(model)) && (trigger < 0 || chosen.trigger.has(trigger)) && setChosen(row.set);
}

const chosenDetectors = () =>
  D.detectors.map((detector, place) => ({ ...detector, place })).filter(({ place }) => chosen.detector.has(place));

// ------------------------------------------------------------------------------------------------ series
// A series is the groups that differ in the rate alone.
function seriesOf(groups) {
  const found = new Map();
  for (const g of groups) {
    const { model, trigger, set } = D.groups;
    const key = `${model[g]}/${trigger[g]}/${set[g]}`;
    if (!found.has(key)) {
      found.set(key, { name: seriesName(g), model: model[g], trigger: trigger[g], set: set[g], groups: [] });
    }
    found.get(key).groups.push(g);
  }
  for (const series of found.values()) series.groups.sort((a, b) => D.groups.rate[a] - D.groups.rate[b]);
  return [...found.values()];
}

function metric(name, g) {
  const column = D.groups.metrics[name];
  // A group may lack a figure that others have: cells of include may run other detectors.
  return { n: column.n[g] ?? 0, value: column.mean[g], low: column.low[g], high: column.high[g] };
}

function seriesName(g) {
  const { model, trigger, set } = D.groups;
  return [D.axes.models[model[g]], D.axes.triggers[trigger[g]], setName(set[g])].filter(Boolean).join(", ");
}

// Cells of each group, in the order of the grid.
const CELLS = (() => {
  const place = new Map(D.groups.model.map((_, g) => [keyOf(D.groups, g), g]));
  const cells = D.groups.model.map(() => []);
  D.cells.model.forEach((_, c) => {
    const g = place.get(keyOf(D.cells, c));
    if (g !== undefined && !(c in D.cells.errors)) cells[g].push(c);
  });
  return cells;
})();

function keyOf(columns, k) {
  return `${columns.model[k]}/${columns.trigger[k]}/${columns.rate[k]}/${columns.set[k]}`;
}

// -------------------------------------------------------------------------------------------- statistics
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// Mean and 95% Student t interval, without one for a single value.
function tInterval(values) {
  const middle = mean(values);
  if (values.length < 2) return { value: middle, low: null, high: null };
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  const half = D.t[values.length - 2] * Math.sqrt(variance / values.length);
  return { value: middle, low: middle - half, high: middle + half };
}

// Of a figure of the cells: mean over those of the groups that have it for every seed, interval over the seeds of it.
function overGroups(name, groups) {
  const column = D.cells.figures[name];
  const seeds = [...new Set(groups.flatMap((g) => CELLS[g].map((c) => D.cells.seed[c])))];
  const complete = groups
    .map((g) => CELLS[g].filter((c) => column[c] !== null))
    .filter((cells) => cells.length > 0 && cells.length === seeds.length);
  if (!complete.length) return { value: null, low: null, high: null, groups: 0, of: groups.length };
  const ofSeed = (seed) => complete.map((cells) => column[cells.find((c) => D.cells.seed[c] === seed)]);
  const bySeed = seeds.map((seed) => mean(ofSeed(seed)));
  return { ...tInterval(bySeed), groups: complete.length, of: groups.length };
}

// ------------------------------------------------------------------------------------------------- curves
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const DIGIT = Object.fromEntries([...DIGITS].map((digit, value) => [digit, value]));

function curve(text) {
  const points = [];
  for (let k = 0; k < text.length / 2; k++) {
    const tpr = (64 * DIGIT[text[2 * k]] + DIGIT[text[2 * k + 1]]) / 4000;
    points.push({ x: (k / 100) ** 2, y: tpr });
  }
  return points;
}
