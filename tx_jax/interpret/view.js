"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const VIEWS = ["head", "model", "neuron"], MOST_LINES = 6000;
const BETWEEN = [["all", "all"], ["00", "A → A"], ["01", "A → B"], ["10", "B → A"], ["11", "B → B"]];
const state = { kind: 0, view: "head", layer: 0, heads: new Set([0]), between: "all", specials: true, least: 0, token: null, kept: false };
let kind = null, drawn = null; // the attention that is shown, unpacked; the picture that can be saved

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new DecompressionStream("deflate-raw"), writer = stream.writable.getWriter();
  writer.write(bytes);
  writer.close();
  return new Uint8Array(await new Response(stream.readable).arrayBuffer());
}

async function unpack(packed) {
  const raw = await unpacked(packed.weights);
  const [T, S] = [packed.query.tokens.length, packed.key.tokens.length], H = packed.heads;
  const count = packed.layers.length * H * T * S;
  const code = data.levels > 255 ? (i) => raw[i] * 256 + raw[count + i] : (i) => raw[i];
  const made = { ...packed, T, S, H, weight: (l, h, i, j) => (code(((l * H + h) * T + i) * S + j) / data.levels) ** 2 };
  if (packed.neurons) {
    const K = packed.neurons.size;
    const values = {};
    for (const [side, length, place] of [["query", T, 0], ["key", S, 1]]) {
      const codes = new Int8Array((await unpacked(packed.neurons[side])).buffer);
      const scales = packed.neurons.scales[place];
      values[side] = (l, h, i, k) => codes[((l * H + h) * length + i) * K + k] * scales[l * H + h];
    }
    made.neurons = { K, ...values };
  }
  return made;
}

function shown(i, j) {
  if (!state.specials && (kind.query.special[i] || kind.key.special[j])) return false;
  return state.between === "all" || state.between === `${kind.query.segments[i]}${kind.key.segments[j]}`;
}

const color = (head) => data.colors[head] || `hsl(${(head * 137.5) % 360}, 55%, 50%)`;
const written = (weight) => weight.toFixed(3);
const firstHead = () => Math.min(...state.heads);
const name = (side, i) => `${kind[side].tokens[i]} (${i})`;

function say(text) {
  $("said").textContent = text;
}

// What a token attends to, or what attends to it, the strongest first.
function describe() {
  const at = `${kind.name}, layer ${kind.layers[state.layer]}, head${state.heads.size > 1 ? "s" : ""} ${[...state.heads].sort((a, b) => a - b).join(", ")}`;
  if (!state.token) return say(`${at}. Point at a token to see what it attends to, or what attends to it.`);
  const { side, index } = state.token, other = side === "query" ? "key" : "query";
  const weights = [];
  for (let n = 0; n < kind[other].tokens.length; n++) {
    const [i, j] = side === "query" ? [index, n] : [n, index];
    if (shown(i, j)) weights.push([n, mean(i, j)]);
  }
  weights.sort((a, b) => b[1] - a[1]);
  const most = weights.slice(0, 5).map(([n, w]) => `${name(other, n)} ${written(w)}`).join(", ");
  say(`${at}: ${name(side, index)} ${side === "query" ? "attends to" : "is attended to by"} ${most || "nothing that is shown"}`);
}

function mean(i, j) {
  let sum = 0;
  for (const head of state.heads) sum += kind.weight(state.layer, head, i, j);
  return sum / state.heads.size;
}

function headView(place) {
  const width = Math.max(300, Math.min(760, place.clientWidth || 760)), rows = Math.max(kind.T, kind.S);
  const step = rows > 64 ? 17 : 22, height = rows * step + 26;
  const longest = Math.max(...[...kind.query.tokens, ...kind.key.tokens].map((token) => token.length));
  const column = Math.min(width * 0.4, 8 * longest + 60), letters = Math.floor((column - 56) / 8);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "attention between tokens" });
  picture.append(svg("text", { x: column, y: 13, "text-anchor": "end", class: "soft" }, "from"));
  picture.append(svg("text", { x: width - column, y: 13, class: "soft" }, "to"));
  const y = (n) => 22 + (n + 0.5) * step, lines = svg("g", { class: "lines", fill: "none" });
  picture.append(lines);
  const marks = { query: [], key: [] };
  for (const side of ["query", "key"]) {
    kind[side].tokens.forEach((token, n) => {
      const left = side === "query" ? 0 : width - column;
      const text = token.length > letters ? token.slice(0, letters - 1) + "…" : token;
      const group = svg("g", { role: "button", tabindex: n === 0 && side === "query" ? 0 : -1, "data-side": side, "data-index": n });
      group.setAttribute("aria-label", `${token}, token ${n}, ${side === "query" ? "attends" : "is attended to"}`);
      const box = svg("rect", { class: "own", x: left, y: y(n) - step / 2 + 1, width: column, height: step - 2, rx: 3, fill: "transparent" });
      const anchor = side === "query" ? { x: column - 6, "text-anchor": "end" } : { x: left + 6 };
      group.append(box, svg("text", { ...anchor, y: y(n) + 4.5 }, text));
      const value = svg("text", { class: "soft value", y: y(n) + 4, ...(side === "query" ? { x: 2 } : { x: width - 2, "text-anchor": "end" }) });
      group.append(value);
      group.onpointerenter = () => { if (!state.kept) point(side, n); };
      group.onpointerleave = () => { if (!state.kept) point(null); };
      group.onfocus = () => { if (!state.kept) point(side, n); };
      group.onclick = () => keep(side, n);
      picture.append(group);
      marks[side].push([box, value]);
    });
  }
  const x = [column + 2, width - column - 2];
  const redraw = () => {
    lines.replaceChildren();
    const found = [];
    const { side, index } = state.token || {};
    for (const head of [...state.heads].sort((a, b) => a - b)) {
      for (let i = 0; i < kind.T; i++) {
        if (side === "query" && i !== index) continue;
        for (let j = 0; j < kind.S; j++) {
          if ((side === "key" && j !== index) || !shown(i, j)) continue;
          const weight = kind.weight(state.layer, head, i, j);
          if (weight >= (side ? 0.001 : state.least) && weight > 0) found.push([weight, head, i, j]);
        }
      }
    }
    found.sort((a, b) => a[0] - b[0]);
    // Of one token, the strongest line is full; of all, a weight of 1.
    const full = side && found.length ? found[found.length - 1][0] : 1;
    for (const [weight, head, i, j] of found.slice(-MOST_LINES)) {
      const line = { x1: x[0], x2: x[1], y1: y(i), y2: y(j), stroke: color(head), "stroke-width": 1.6 };
      lines.append(svg("line", { ...line, "stroke-opacity": Math.min(1, weight / full).toFixed(3), "data-weight": weight.toFixed(4) }));
    }
    for (const one of ["query", "key"]) {
      marks[one].forEach(([box, value], n) => {
        value.textContent = "";
        box.setAttribute("fill", "transparent");
        const own = side === one && n === index;
        if (own) box.setAttribute("fill", "rgba(128, 128, 128, .25)");
        if (!side || side === one) return;
        const [i, j] = side === "query" ? [index, n] : [n, index];
        if (!shown(i, j)) return;
        const weight = mean(i, j);
        box.setAttribute("fill", color(firstHead()));
        box.setAttribute("fill-opacity", Math.min(0.6, (0.6 * weight) / full).toFixed(3));
        if (weight >= 0.0005) value.textContent = written(weight);
      });
    }
    describe();
  };
  drawn = picture;
  place.append(picture);
  redraw();
  return redraw;
}

// A picture of a head: a pixel for each weight.
function pixels(layer, head) {
  const canvas = element("canvas", { width: kind.S, height: kind.T });
  const context = canvas.getContext("2d"), image = context.createImageData(kind.S, kind.T);
  const [red, green, blue] = getComputedStyle(document.documentElement).getPropertyValue("--tint").split(",").map(Number);
  for (let i = 0; i < kind.T; i++) {
    for (let j = 0; j < kind.S; j++) {
      const weight = shown(i, j) ? kind.weight(layer, head, i, j) : 0;
      image.data.set([red, green, blue, Math.round(255 * Math.sqrt(Math.min(1, weight)))], 4 * (i * kind.S + j));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function modelView(place) {
  const size = Math.min(110, Math.max(22, ((place.clientWidth || 900) - 40) / kind.H - 3));
  const grid = element("div", { class: "grid", role: "group", "aria-label": "all heads", style: `grid-template-columns: 32px repeat(${kind.H}, ${size}px)` });
  grid.append(element("span", {}, "layer"));
  for (let head = 0; head < kind.H; head++) grid.append(element("span", {}, String(head)));
  kind.layers.forEach((number, layer) => {
    grid.append(element("span", {}, String(number)));
    for (let head = 0; head < kind.H; head++) {
      const button = element("button", { type: "button", "aria-label": `layer ${number}, head ${head}` }, pixels(layer, head));
      button.onclick = () => { Object.assign(state, { layer, heads: new Set([head]), view: "head" }); everything(); };
      button.onpointerenter = button.onfocus = () => say(`layer ${number}, head ${head}: rows attend to columns; click to open`);
      grid.append(button);
    }
  });
  place.append(grid);
  say(`${kind.name}: ${kind.layers.length} layers of ${kind.H} heads; rows are the tokens that attend, columns those attended to.`);
}

function strip(values, most) {
  const canvas = element("canvas", { width: values.length, height: 1, style: `width: ${Math.min(260, values.length * 4)}px` });
  const context = canvas.getContext("2d"), image = context.createImageData(values.length, 1);
  values.forEach((value, k) => {
    const [r, g, b] = value > 0 ? [0, 114, 178] : [213, 94, 0];
    image.data.set([r, g, b, Math.round(255 * Math.min(1, Math.abs(value) / most))], 4 * k);
  });
  context.putImageData(image, 0, 0);
  canvas.onpointermove = (event) => {
    const k = Math.min(values.length - 1, Math.floor((event.offsetX / canvas.clientWidth) * values.length));
    say(`neuron ${k}: ${values[k].toFixed(4)}`);
  };
  return canvas;
}

function neuronView(place) {
  if (!kind.neurons) return place.append(element("p", {}, kind.why));
  const head = firstHead(), layer = state.layer, K = kind.neurons.K, { query, key } = kind.neurons;
  const index = state.token && state.token.side === "query" ? state.token.index : Math.min(1, kind.T - 1);
  const choice = element("select", { id: "query", "aria-label": "the token that attends" });
  kind.query.tokens.forEach((token, i) => choice.append(element("option", { value: i, ...(i === index ? { selected: "" } : {}) }, `${token} (${i})`)));
  choice.onchange = () => { state.token = { side: "query", index: Number(choice.value) }; everything(); };
  const steps = Array.from({ length: K }, (_, k) => k), q = steps.map((k) => query(layer, head, index, k));
  const rows = [];
  for (let j = 0; j < kind.S; j++) {
    const keys = steps.map((k) => key(layer, head, j, k)), products = keys.map((value, k) => value * q[k]);
    rows.push({ j, keys, products, score: products.reduce((a, b) => a + b, 0) / Math.sqrt(K), weight: kind.weight(layer, head, index, j) });
  }
  const most = (lists) => Math.max(...lists.flat().map(Math.abs)) || 1;
  const [ofQuery, ofKeys, ofProducts] = [most([q]), most(rows.map((row) => row.keys)), most(rows.map((row) => row.products))];
  place.append(element("p", {}, "Query ", choice, " times each key, neuron by neuron; the products' sum, divided by ", `√${K}`, ", goes through the softmax over all keys. Blue is positive, orange negative."));
  const table = element("table", { class: "neurons" }), body = element("tbody", {});
  table.append(element("thead", {}, element("tr", {}, ...["to", "key", "query × key", "score", "softmax"].map((title) => element("th", { scope: "col" }, title)))), body);
  body.append(element("tr", {}, element("th", { scope: "row" }, "query"), element("td", {}, strip(q, ofQuery)), element("td", { colspan: 3 })));
  for (const row of rows) {
    if (!shown(index, row.j)) continue;
    const bar = element("span", { class: "bar", style: `width: ${(90 * row.weight).toFixed(1)}px` });
    body.append(element("tr", { "data-weight": row.weight.toFixed(4) },
      element("th", { scope: "row" }, kind.key.tokens[row.j]), element("td", {}, strip(row.keys, ofKeys)),
      element("td", {}, strip(row.products, ofProducts)), element("td", { class: "number" }, row.score.toFixed(2)),
      element("td", {}, bar, ` ${written(row.weight)}`)));
  }
  place.append(table);
  say(`${kind.name}, layer ${kind.layers[layer]}, head ${head}: from ${name("query", index)}`);
}

let redraw = () => {};

function point(side, index) {
  state.token = side ? { side, index } : null;
  redraw();
}

function keep(side, index) {
  const same = state.kept && state.token && state.token.side === side && state.token.index === index;
  state.kept = !same;
  point(same ? null : side, index);
}

function everything() {
  const place = $("view");
  place.replaceChildren();
  drawn = null;
  redraw = { head: headView, model: modelView, neuron: neuronView }[state.view](place) || (() => {});
  for (const view of VIEWS) $(`view-${view}`).setAttribute("aria-selected", String(state.view === view));
  $("layer").value = state.layer;
  $("layer").disabled = state.view === "model";
  $("specials").checked = state.specials;
  $("least").value = state.least;
  $("least-said").textContent = state.least.toFixed(2);
  $("least-label").hidden = state.view !== "head";
  for (const id of ["svg", "png"]) $(id).disabled = !drawn;
  document.querySelectorAll("#heads input").forEach((box) => { box.checked = state.heads.has(Number(box.value)); });
  $("heads").hidden = state.view === "model";
}

async function show(index) {
  state.kind = index;
  kind = await unpack(data.kinds[index]);
  Object.assign(state, { layer: Math.min(state.layer, kind.layers.length - 1), token: null, kept: false, between: "all" });
  if (state.least === 0 && kind.T * kind.S > 900) state.least = 0.05;
  $("layer").replaceChildren(...kind.layers.map((number, l) => element("option", { value: l }, String(number))));
  $("between-label").hidden = !kind.query.segments.includes(1);
  $("between").value = "all";
  const boxes = Array.from({ length: kind.H }, (_, head) => {
    const box = element("input", { type: "checkbox", value: head, "aria-label": `head ${head}` });
    box.onchange = () => {
      box.checked ? state.heads.add(head) : state.heads.delete(head);
      if (!state.heads.size) state.heads.add(head);
      everything();
    };
    return element("label", {}, box, element("i", { style: `background: ${color(head)}` }), String(head));
  });
  const all = element("button", { type: "button" }, "all");
  all.onclick = () => { state.heads = new Set(state.heads.size === kind.H ? [0] : Array.from({ length: kind.H }, (_, head) => head)); everything(); };
  $("heads").replaceChildren(element("legend", {}, "heads"), ...boxes, all);
  everything();
  document.body.dataset.ready = "true";
}

// The picture with the page's colors written into it, since outside there is no style sheet.
function standalone() {
  const copy = drawn.cloneNode(true), style = getComputedStyle(document.documentElement);
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ");
  const [text, soft, paper] = ["--text", "--soft", "--page"].map((key) => style.getPropertyValue(key).trim());
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.prepend(svg("style", {}, `text { fill: ${text}; font: 13px monospace } .soft { fill: ${soft}; font-size: 11px }`), svg("rect", { width, height, fill: paper }));
  return { text: new XMLSerializer().serializeToString(copy), width: Number(width), height: Number(height) };
}

function download(address, ending) {
  element("a", { href: address, download: `attention.${ending}` }).click();
}

$("svg").onclick = () => download("data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone().text), "svg");
$("png").onclick = () => {
  const { text, width, height } = standalone(), image = new Image();
  image.onload = () => {
    const canvas = element("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    download(canvas.toDataURL("image/png"), "png");
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
};

function step(value, by, count) {
  return (value + by + count) % count;
}

function stepToken(by) {
  const { side, index } = state.token || { side: "query", index: by > 0 ? -1 : 0 };
  const next = step(index, by, kind[side].tokens.length);
  state.token = { side, index: next };
  if (state.view === "neuron") return everything();
  const group = document.querySelector(`[data-side=${side}][data-index="${next}"]`);
  redraw();
  if (group) group.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("select, input[type=range]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key], up = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (VIEWS["123".indexOf(event.key)] && event.key.length === 1) state.view = VIEWS["123".indexOf(event.key)];
  else if (across) state.heads = new Set([step(firstHead(), across, kind.H)]);
  else if (up && event.shiftKey) state.layer = step(state.layer, up, kind.layers.length);
  else if (up && state.view !== "model") { event.preventDefault(); return stepToken(up); }
  else if (event.key === "s") state.specials = !state.specials;
  else if (event.key === "Escape") Object.assign(state, { token: null, kept: false });
  else if (event.key === "Enter" && event.target.dataset && event.target.dataset.side) return keep(event.target.dataset.side, Number(event.target.dataset.index));
  else return;
  event.preventDefault();
  everything();
});

for (const [number, view] of VIEWS.entries()) {
  const tab = element("button", { type: "button", role: "tab", id: `view-${view}`, "aria-controls": "view", title: `key ${number + 1}` }, `${view} view`);
  tab.onclick = () => { state.view = view; everything(); };
  $("views").append(tab);
}
$("kind").append(...data.kinds.map((one, index) => element("option", { value: index }, one.name)));
$("kind-label").hidden = data.kinds.length === 1;
$("kind").onchange = () => show(Number($("kind").value));
$("layer").onchange = () => { state.layer = Number($("layer").value); everything(); };
$("between").append(...BETWEEN.map(([value, text]) => element("option", { value }, text)));
$("between").onchange = () => { state.between = $("between").value; everything(); };
$("specials").onchange = () => { state.specials = $("specials").checked; everything(); };
$("least").oninput = () => { state.least = Number($("least").value); everything(); };
$("controls").onsubmit = (event) => event.preventDefault();
if (data.unknown.length)
  $("unknown").textContent = `Not in the model's vocabulary, so read as its unknown token: ${data.unknown.join(", ")}.`;
$("rounding").textContent = `Weights here are rounded, by at most ${(1 / data.levels).toPrecision(1)}.`;
addEventListener("resize", everything);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", everything);
if (typeof DecompressionStream === "undefined") say("This browser is too old to unpack the page's numbers: take one of 2023 or newer.");
else show(0);
