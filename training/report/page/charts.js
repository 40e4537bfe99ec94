"use strict";
// Draws specifications in the page's theme; everything is drawn again when theme or width change.
const Charts = (() => {
  // What stands beside the panel: labels, titles.
  const ASIDE = { map: 70, ranks: 225, strip: 150, differences: 340 };
  const drawn = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let themes = {}, specs = {}, printing = false;

  async function draw(name) {
    const chart = drawn.get(name), mine = chart.turn = (chart.turn ?? 0) + 1;
    const spec = structuredClone(specs[name]), isDark = dark.matches && !printing;
    fit(spec, Math.min(printing ? 640 : chart.element.clientWidth, 900), name);
    spec.datasets = chart.data;
    const config = { ...themes[isDark ? "dark" : "light"], background: "transparent" };
    const many = Object.values(chart.data).some(rows => rows.length > 1500);
    const options = { config, mode: "vega-lite", renderer: many ? "canvas" : "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: isDark ? "dark" : "light" } };
    const { view, finalize } = await vegaEmbed(chart.element, spec, options);
    if (drawn.get(name) !== chart || chart.turn !== mine) { finalize(); return; }  // drawn anew meanwhile
    chart.finalize?.();
    Object.assign(chart, { view, finalize });
    for (const [key, rows] of Object.entries(chart.data)) if (rows !== spec.datasets[key]) view.data(key, rows);
    await view.runAsync();
    // The container speaks for all of the drawing.
    chart.element.setAttribute("role", "img");
    chart.element.removeAttribute("aria-roledescription");
    chart.element.setAttribute("aria-label", chart.description);
    for (const inner of chart.element.children) inner.setAttribute("aria-hidden", "true");
    chart.after?.(view);
  }

  function fit(spec, room, name) {
    if (spec.facet) {  // panels side by side, or below each other where there is no room
      spec.columns = room < 620 ? 1 : 2;
      spec.spec.width = Math.min(360, room / spec.columns - 75);
    } else if (spec.vconcat) {
      for (const part of spec.vconcat) part.width = Math.min(560, room - 110);
    } else {
      spec.width = Math.max(150, Math.min(room, name === "map" ? 900 : 720) - ASIDE[name]);
      if (name === "map") spec.height = Math.max(320, Math.min(480, room * 0.7));
    }
  }

  function again() { for (const name of drawn.keys()) draw(name); }
  let waiting = 0, width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || printing) return;
    width = innerWidth; clearTimeout(waiting); waiting = setTimeout(again, 120);
  });
  dark.addEventListener("change", again);
  addEventListener("beforeprint", () => { printing = true; again(); });
  addEventListener("afterprint", () => { printing = false; again(); });

  return {
    start(data) { themes = data.themes; specs = data.charts; },
    /** Draw a specification into the element of its name; `after` gets the view, now and later. */
    put(name, data, description, after) {
      drawn.get(name)?.finalize?.();
      drawn.set(name, { element: document.getElementById(name), data, description, after });
      return draw(name);
    },
    drop(name) { drawn.get(name)?.finalize?.(); drawn.delete(name); },
    /** Other rows for some data of a chart. */
    feed(name, data) {
      const chart = drawn.get(name);
      chart.data = { ...chart.data, ...data };
      for (const [key, rows] of Object.entries(data)) chart.view?.data(key, rows);
      chart.view?.runAsync();
    },
  };
})();

const $ = name => document.getElementById(name);
/** An element with a text in it; the text is never markup. */
function el(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}
const digits = (value, n = 4) => value == null ? "–" : Math.abs(value) >= 1e4 ? value.toExponential(2) : value.toFixed(n);

/** What a block of the file holds. */
async function unpack(name) {
  const packed = Uint8Array.from(atob($(name).textContent), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Words of two texts: [mark, text] with mark " " for both, "-" for the first alone, "+" for the other. */
function compare(before, after) {
  const a = before.split(/(\s+)/), b = after.split(/(\s+)/), parts = [];
  const add = (mark, text) => { const last = parts.at(-1); if (last && last[0] === mark) last[1] += text; else if (text) parts.push([mark, text]); };
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const x = a.slice(start, a.length - end), y = b.slice(start, b.length - end);
  add(" ", a.slice(0, start).join(""));
  if (x.length * y.length > 4e6) { add("-", x.join("")); add("+", y.join("")); }
  else {
    const width = y.length + 1, longest = new Uint16Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--)
      longest[i * width + j] = x[i] === y[j] ? longest[(i + 1) * width + j + 1] + 1 : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    let i = 0, j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { add(" ", x[i]); i++; j++; }
      else if (j >= y.length || (i < x.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) add("-", x[i++]);
      else add("+", y[j++]);
    }
  }
  add(" ", a.slice(a.length - end).join(""));
  return parts;
}
