// The front as something to choose from. Everything it shows is in the page; with a server behind it, networks answer, too.
const data = JSON.parse(document.getElementById("front-data").textContent);
const root = document.getElementById("explore");
const all = [data.parent, ...data.points].filter(Boolean);
const svgOf = (name, fields, ...inner) => fill(document.createElementNS("http://www.w3.org/2000/svg", name), fields, inner);
const htmlOf = (name, fields, ...inner) => fill(document.createElement(name), fields, inner);

function fill(element, fields, inner) {
  for (const [name, value] of Object.entries(fields)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...inner);
  return element;
}

// Numbers as the tables have them: 113.0M, 226.0 MB, 0.470.
function said(value, unit) {
  const sizes = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [by, letter] = sizes.find(([least]) => Math.abs(value) >= least) || [1, ""];
  const digits = by > 1 || Number.isInteger(value) ? (by > 1 ? 1 : 0) : Math.abs(value) < 10 ? 3 : 1;
  return (value / by).toFixed(digits) + (unit ? ` ${letter}${unit}` : letter);
}

const nameOf = (network) => (network === data.parent ? "the parent" : `network ${network.id}`);
const valueOf = (network, axis) => (axis.score ? (network.scores[axis.name] || [])[0] : network.values[axis.name]);
let chosen = data.points.find((point) => point.knee) || data.points[0] || data.parent;

// Steps of 1, 2 or 5 times a power of ten.
function ticks(from, to) {
  const rough = (to - from) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const list = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to + step * 1e-9; tick += step) list.push(tick);
  return list;
}

function drawChart(svg, x, y) {
  const [width, height, left, bottom, top, right] = [Math.min(640, Math.max(320, root.clientWidth)), 420, 64, 48, 16, 16];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shown = all.filter((network) => Number.isFinite(valueOf(network, x)) && Number.isFinite(valueOf(network, y)));
  const error = (network) => (y.score ? network.scores[y.name][1] : 0);
  const range = (values) => {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const more = (most - least || Math.abs(most) || 1) * 0.06;
    return [least - more, most + more];
  };
  const [x0, x1] = range(shown.map((network) => valueOf(network, x)));
  const [y0, y1] = range(shown.flatMap((network) => [-1, 1].map((sign) => valueOf(network, y) + sign * error(network))));
  const across = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const down = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - bottom - top);
  svg.replaceChildren();
  for (const tick of ticks(x0, x1)) {
    svg.append(svgOf("line", { x1: across(tick), x2: across(tick), y1: top, y2: height - bottom, class: "grid" }));
    svg.append(svgOf("text", { x: across(tick), y: height - bottom + 18, "text-anchor": "middle" }, said(tick, "")));
  }
  for (const tick of ticks(y0, y1)) {
    svg.append(svgOf("line", { x1: left, x2: width - right, y1: down(tick), y2: down(tick), class: "grid" }));
    svg.append(svgOf("text", { x: left - 8, y: down(tick) + 4, "text-anchor": "end" }, said(tick, "")));
  }
  svg.append(svgOf("text", { x: (left + width) / 2, y: height - 10, "text-anchor": "middle" }, x.label));
  const middle = (height - bottom) / 2;
  svg.append(svgOf("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, y.label));
  const line = data.points.filter((point) => shown.includes(point)).sort((a, b) => valueOf(a, x) - valueOf(b, x));
  svg.append(svgOf("polyline", { points: line.map((point) => `${across(valueOf(point, x))},${down(valueOf(point, y))}`).join(" "), class: "front" }));
  for (const network of shown) {
    const [cx, cy, spread] = [across(valueOf(network, x)), down(valueOf(network, y)), error(network)];
    if (spread > 0) {
      const [from, to] = [-1, 1].map((sign) => down(valueOf(network, y) + sign * spread));
      svg.append(svgOf("line", { x1: cx, x2: cx, y1: from, y2: to, class: "error" }));
    }
    const kinds = ["point", network === data.parent && "parent", network.dominated && "dominated", network === chosen && "chosen"];
    const words = `${nameOf(network)}${network.knee ? ", the knee" : ""}: ${x.label} ${said(valueOf(network, x), "")}, ${y.label} ${said(valueOf(network, y), "")}`;
    const choose = () => show(network, true);
    const pressed = (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), choose());
    const fields = { cx, cy, r: network === chosen ? 9 : 7, class: kinds.filter(Boolean).join(" "), tabindex: 0, role: "button" };
    svg.append(svgOf("circle", { ...fields, "aria-label": words, onclick: choose, onkeydown: pressed }, svgOf("title", {}, words)));
  }
}

// Two bars a layer, of what the parent has: heads, and MLP channels.
function drawLayers(svg, network) {
  const wide = Math.max(320, root.clientWidth);
  const width = wide / network.layers.length;
  svg.setAttribute("viewBox", `0 0 ${wide} 112`);
  svg.replaceChildren();
  network.layers.forEach(([heads, mlp], layer) => {
    const words = `layer ${layer}: ${heads ? Math.round(heads * data.heads) : "no"} heads, ${mlp ? Math.round(mlp * data.mlp) : "no"} channels`;
    const group = svgOf("g", {}, svgOf("title", {}, words));
    [[heads, "heads"], [mlp, "mlp"]].forEach(([share, kind], place) => {
      const x = layer * width + place * width * 0.45 + width * 0.05;
      group.append(svgOf("rect", { x, y: 4, width: width * 0.4, height: 90, class: "whole" }));
      group.append(svgOf("rect", { x, y: 94 - 90 * share, width: width * 0.4, height: 90 * share, class: kind }));
    });
    const every = Math.ceil(24 / width);
    if (layer % every === 0) group.append(svgOf("text", { x: (layer + 0.5) * width, y: 108, "text-anchor": "middle" }, String(layer)));
    svg.append(group);
  });
}

function copyButton(words, text) {
  const button = htmlOf("button", { type: "button", title: text }, words);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = text;
    }
    setTimeout(() => (button.textContent = words), 2000);
  });
  return button;
}

const chart = svgOf("svg", { class: "chart", role: "group", "aria-label": "the front: choose a network" });
const facts = htmlOf("div", { class: "chosen" });
const layers = svgOf("svg", { role: "img", "aria-label": "what the chosen network keeps of each layer" });
const selectOf = (axes, words) => {
  const select = htmlOf("select", { "aria-label": words }, ...axes.map((axis, place) => htmlOf("option", { value: place }, axis.label)));
  select.addEventListener("change", () => show(chosen, false));
  return select;
};
const scoresOf = selectOf(data.scores, "score");
const sizesOf = selectOf(data.sizes, "size or speed");

function show(network, focus) {
  chosen = network;
  if (data.points.length > 0) drawChart(chart, data.sizes[sizesOf.value || 0], data.scores[scoresOf.value || 0]);
  const known = [...data.sizes, ...data.scores].filter((axis) => Number.isFinite(valueOf(network, axis)));
  const cells = known.flatMap((axis) => {
    if (!axis.score) return [[axis.label, said(valueOf(network, axis), axis.unit)]];
    const [value, error, delta, spread] = network.scores[axis.name];
    const own = [axis.label, `${value.toFixed(3)} ± ${error.toFixed(3)}`];
    const sign = delta >= 0 ? "+" : "−";
    return network === data.parent ? [own] : [own, ["to parent", `${sign}${Math.abs(delta).toFixed(3)} ± ${spread.toFixed(3)}`]];
  });
  const rows = cells.map((row) => htmlOf("tr", {}, ...row.map((cell) => htmlOf("td", {}, cell))));
  const pick = network === data.parent ? null : network.id;
  const command = (format, out) => `criadero export ${data.run} --pick ${pick} --format ${format} --out ${out}`;
  const buttons = [copyButton("copy the genome", network.genome)];
  if (pick !== null && data.run) {
    buttons.unshift(copyButton("copy the export to GGUF", command("gguf", `network-${pick}.gguf`)), copyButton("copy the export to HF", command("hf", `network-${pick}`)));
  }
  facts.replaceChildren(
    htmlOf("h3", {}, nameOf(network) + (network.knee ? ", the knee" : "") + (network.dominated ? ", dominated on held-out" : "")),
    htmlOf("table", { class: "values" }, htmlOf("tbody", {}, ...rows)),
    htmlOf("div", { class: "copies" }, ...buttons),
  );
  drawLayers(layers, network);
  if (first && network.model) first.value = network.model;
  if (focus) chart.querySelector(".chosen")?.focus();
}

// Two networks write behind the same words, one after the other, so that neither slows the other down.
let first = null;
function askBox() {
  const networks = all.filter((network) => network.model);
  const choice = (words, selected) => {
    const options = networks.map((network) => htmlOf("option", { value: network.model }, `${nameOf(network)}${network.knee ? ", the knee" : ""}`));
    const select = htmlOf("select", { "aria-label": words }, ...options);
    select.value = (selected || networks[0]).model;
    return select;
  };
  first = choice("the first network", chosen.model ? chosen : null);
  const second = networks.length > 1 ? choice("the second network", data.parent) : null;
  const prompt = htmlOf("textarea", { "aria-label": "prompt", placeholder: "Once upon a time" });
  const tokens = htmlOf("input", { type: "number", min: 1, max: 4096, value: 64, "aria-label": "tokens at most" });
  const chat = htmlOf("input", { type: "checkbox" });
  const key = data.key ? htmlOf("input", { type: "password", "aria-label": "API key", placeholder: "API key" }) : null;
  const write = htmlOf("button", { type: "button" }, "write");
  const places = [first, second].filter(Boolean).map((select) => {
    const [rate, text] = [htmlOf("p", { class: "rate" }, "\u00a0"), htmlOf("output", {})];
    return { select, rate, text, box: htmlOf("div", {}, rate, text) };
  });
  let running = null;
  write.addEventListener("click", async () => {
    if (running) return running.abort();
    running = new AbortController();
    write.textContent = "stop";
    const words = prompt.value || prompt.placeholder;
    places.forEach(({ rate, text }) => ((rate.textContent = "\u00a0"), (text.textContent = "")));
    for (const place of places) {
      if (running.signal.aborted) break;
      try {
        await answer(place, words, Number(tokens.value) || 64, chat.checked, key?.value, running.signal);
      } catch (error) {
        place.rate.textContent = error.name === "AbortError" ? "stopped" : error.message;
      }
    }
    running = null;
    write.textContent = "write";
  });
  const controls = [first, second, htmlOf("label", {}, tokens, " tokens"), htmlOf("label", {}, chat, " as a chat"), key, write];
  return htmlOf("div", { class: "ask" }, htmlOf("h3", {}, "Let them write"), prompt, htmlOf("div", { class: "controls" }, ...controls.filter(Boolean)), htmlOf("div", { class: "answers" }, ...places.map(({ box }) => box)));
}

async function answer({ select, rate, text }, words, tokens, chat, key, signal) {
  const body = { model: select.value, max_tokens: tokens, temperature: 0, stream: true, stream_options: { include_usage: true } };
  Object.assign(body, chat ? { messages: [{ role: "user", content: words }] } : { prompt: words });
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(`v1/${chat ? "chat/" : ""}completions`, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, begun, written] = ["", 0, 0];
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (rest + piece.value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((line) => line.startsWith("data: {"))) {
      const said = JSON.parse(line.slice(6));
      if (said.error) throw new Error(said.error.message);
      const added = said.choices[0]?.text ?? said.choices[0]?.delta?.content ?? "";
      if (added && !begun) begun = performance.now();
      text.textContent += added;
      written = said.usage?.completion_tokens ?? written;
    }
  }
  const seconds = (performance.now() - begun) / 1000;
  const model = select.selectedOptions[0].textContent;
  rate.textContent = written > 1 ? `${model}: ${written} tokens, ${((written - 1) / seconds).toFixed(1)} a second behind the first` : `${model}: ${written} tokens`;
}

if (data.points.length > 0) {
  root.append(
    htmlOf("div", {}, htmlOf("div", { class: "axes" }, htmlOf("label", {}, "score ", scoresOf), htmlOf("label", {}, "against ", sizesOf)), chart),
    facts,
  );
} else {
  root.append(facts);
}
const keys = [["--accent", "heads"], ["--second", "MLP channels"]].flatMap(([color, words]) => [htmlOf("span", { class: "key", style: `background:var(${color})` }), words]);
root.append(htmlOf("div", { class: "layers" }, htmlOf("h3", {}, "What it keeps of each layer", ...keys), layers));
if (data.served) root.append(askBox());
show(chosen, false);
addEventListener("resize", () => show(chosen, false));
