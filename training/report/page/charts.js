// What all of the page uses: what it holds, elements, charts.
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
const data = await unpack("data");

// Draws specifications in the page's theme, as wide as there is room; anew when the theme changes.
const Charts = (() => {
  const drawn = new Map(), dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false, last = Promise.resolve();

  /** One after the other, so that whoever comes last is what is seen. */
  function draw(name) { return last = last.then(() => drawNow(name)); }

  async function drawNow(name) {
    const { rows, description, views } = drawn.get(name), element = $(name), whole = data.charts[name];
    if (!element) return;
    drop(name);
    // The container speaks for all of the drawing.
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", description);
    const panels = whole.concat ?? [whole], isDark = dark.matches && !printing;
    const config = { ...data.themes[isDark ? "dark" : "light"], background: "transparent" };
    const many = Object.values(rows).some(each => each.length > 1500);
    const options = {
      config, mode: "vega-lite", renderer: many ? "canvas" : "svg", actions: false, ast: true, defaultStyle: false,
      tooltip: { theme: isDark ? "dark" : "light" },
      patch: fill,
    };
    element.replaceChildren(...panels.map(() => el("div")));
    for (const [at, place] of [...element.children].entries()) {
      place.ariaHidden = "true";
      const spec = { data: whole.data, ...panels[at], datasets: rows };
      if (name === "map") spec.height = 440;
      views.push(await vegaEmbed(place, spec, options));
    }
    if (drawn.get(name).rows !== rows) draw(name);  // other rows came meanwhile
  }

  /** As wide as the container. Vega-Lite could say so itself, but warns of rows that have a height. */
  function fill({ width, signals = [], ...vega }) {
    const room = "containerSize()[0]", follow = { name: "width", init: room, on: [{ events: "window:resize", update: room }] };
    return { ...vega, autosize: { type: "fit-x", contains: "padding" }, signals: [follow, ...signals] };
  }
  function drop(name) { for (const each of drawn.get(name).views.splice(0)) each.finalize(); }
  function again() { for (const name of drawn.keys()) draw(name); }
  dark.addEventListener("change", again);
  addEventListener("beforeprint", () => { printing = true; again(); });
  addEventListener("afterprint", () => { printing = false; again(); });

  return {
    /** Draw a specification into the element of its name. */
    put(name, rows, description) {
      drawn.set(name, { views: [], ...drawn.get(name), rows, description });
      return draw(name);
    },
    /** Other rows for some data of a chart of one panel. */
    feed(name, rows) {
      const chart = drawn.get(name), view = this.view(name);
      chart.rows = { ...chart.rows, ...rows };
      for (const [key, some] of Object.entries(rows)) view?.data(key, some);
      view?.runAsync();
    },
    /** The view of a chart of one panel, if it is drawn. */
    view(name) { return drawn.get(name)?.views[0]?.view; },
  };
})();
