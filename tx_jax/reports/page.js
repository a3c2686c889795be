"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const WIDTH = 400, HEIGHT = 250, LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 24;
const hidden = new Set();
let smoothing = 0;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function color(run) {
  return data.colors[run % data.colors.length];
}

// An exponential moving average, corrected for its start.
function smooth(points) {
  let mean = 0, weight = 0;
  return points.map(([x, y]) => {
    mean = smoothing * mean + (1 - smoothing) * y;
    weight = smoothing * weight + (1 - smoothing);
    return [x, mean / weight];
  });
}

function written(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const first of high / low > 100 ? [1] : [1, 2, 5]) {
        const value = first * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    return found.length ? found : [low, high];
  }
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((first) => first * power).find((value) => value >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

function plot(chart, logarithmic, svg, said) {
  svg.replaceChildren();
  const shown = chart.series
    .filter((series) => !hidden.has(series.run))
    .map((series) => ({ ...series, points: smoothing && series.split === "train" ? smooth(series.points) : series.points }))
    .map((series) => ({ ...series, points: logarithmic ? series.points.filter(([, y]) => y > 0) : series.points }))
    .filter((series) => series.points.length);
  if (!shown.length) return;
  const all = shown.flatMap((series) => series.points);
  const ends = (place) => all.reduce(([a, b], point) => [Math.min(a, point[place]), Math.max(b, point[place])], [Infinity, -Infinity]);
  let [left, right] = ends(0), [low, high] = ends(1);
  if (left === right) [left, right] = [left - 1, right + 1];
  if (low === high) [low, high] = logarithmic ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
  const level = logarithmic ? Math.log : (value) => value;
  const across = (x) => LEFT + ((x - left) / (right - left)) * (WIDTH - LEFT - RIGHT);
  const up = (y) => TOP + (1 - (level(y) - level(low)) / (level(high) - level(low))) * (HEIGHT - TOP - BOTTOM);
  for (const y of ticks(low, high, logarithmic)) {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: up(y), y2: up(y) }));
    svg.append(drawn("text", { x: LEFT - 5, y: up(y) + 4, "text-anchor": "end" }, written(y)));
  }
  for (const x of ticks(left, right, false)) {
    svg.append(drawn("text", { x: across(x), y: HEIGHT - 6, "text-anchor": "middle" }, x >= 1e5 ? written(x) : x.toLocaleString("en")));
  }
  for (const series of shown) {
    const line = { fill: "none", stroke: color(series.run), "stroke-width": 1.6 };
    if (series.split !== "train") line["stroke-dasharray"] = "5 3";
    const points = series.points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`);
    svg.append(drawn("polyline", { ...line, class: "curve", points: points.join(" ") }));
    if (series.points.length < 40) {
      for (const [x, y] of series.points) svg.append(drawn("circle", { cx: across(x), cy: up(y), r: 2.4, fill: color(series.run) }));
    }
  }
  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
    let best = null, least = Infinity;
    for (const series of shown) {
      for (const [x, y] of series.points) {
        const distance = (across(x) - px) ** 2 + (up(y) - py) ** 2;
        if (distance < least) [best, least] = [[series, x, y], distance];
      }
    }
    const [series, x, y] = best;
    said.textContent = `${data.runs[series.run]}, ${series.split}, step ${x.toLocaleString("en")}: ${written(y)}`;
  };
  svg.onpointerleave = () => { said.textContent = ""; };
}

function charts() {
  const place = document.getElementById("charts");
  if (!place) return;
  const redraws = data.charts.map((chart) => {
    const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": chart.title });
    const box = element("input", { type: "checkbox" }), said = element("output", {});
    box.checked = chart.logarithmic;
    const caption = element("figcaption", {}, chart.title, element("label", {}, box, " log"));
    place.append(element("figure", {}, caption, svg, said));
    const redraw = () => plot(chart, box.checked, svg, said);
    box.onchange = redraw;
    return redraw;
  });
  const redraw = () => redraws.forEach((one) => one());
  const controls = document.getElementById("controls");
  data.runs.forEach((name, run) => {
    const box = element("input", { type: "checkbox", checked: "" });
    box.onchange = () => { box.checked ? hidden.delete(run) : hidden.add(run); redraw(); };
    controls.append(element("label", {}, box, element("i", { style: `background: ${color(run)}` }), name));
  });
  const slider = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: 0, "aria-label": "smoothing" });
  slider.oninput = () => { smoothing = Number(slider.value); redraw(); };
  controls.append(element("label", {}, "smoothing", slider));
  redraw();
}

// A number at the beginning of a cell, such as "1,024" or "0.5 ± 0.1"; a time such as 1:02:03 in seconds.
function worth(text) {
  if (/^\d+(:\d\d)+$/.test(text)) return text.split(":").reduce((sum, part) => 60 * sum + Number(part), 0);
  return parseFloat(text.replace(/,/g, ""));
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows], sign = down ? -1 : 1;
      rows.sort((a, b) => {
        const [x, y] = [a.cells[column].textContent, b.cells[column].textContent];
        if (!x || !y) return x ? -1 : y ? 1 : 0;
        const [m, n] = [worth(x), worth(y)];
        return sign * (Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y, "en", { numeric: true }) : m - n);
      });
      table.tBodies[0].append(...rows);
    };
  });
}

charts();
document.querySelectorAll("table").forEach(sortable);
