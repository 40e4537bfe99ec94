// The page: what is filtered, pinned and shown; its state stands in the address, so a reload keeps it.
const form = $("filters");
$("about").textContent = data.about;
const ids = data.tasks.id, table = { sort: "prompt_uncertainty", down: true, page: 0 };
const texts = ids.map((id, task) => [id, data.tasks.category[task] || "", data.tasks.definition[task] || ""].join("\n").toLowerCase());
// A task keeps its colour from round to round: its category when it was first on the map.
const colour = ids.map((_, task) => data.rounds.map(round => round.category[task]).find(kind => kind && kind !== "unmeasurable"));
let pinned = null, hovered = null, shown = [], rows = [], asked = {}, round;
const value = (name, task) => round.values[name]?.[task] ?? null;

/** What the form asks for, by the names of its fields. */
function read() {
  asked = Object.fromEntries(new FormData(form));
  round = data.rounds[asked.round];
}
function keep() {
  const boxes = [...form.elements].filter(field => field.type === "checkbox").map(field => [field.name, field.checked]);
  const state = { ...asked, ...Object.fromEntries(boxes), ...table, pin: ids[pinned] };
  history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(state)));
}
function remember() {
  let state;
  try { state = JSON.parse(decodeURIComponent(location.hash.slice(1))); } catch { return; }  // no state of ours
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = state[field.name] ?? field.checked;  // a later report may have more
    else if (field.name in state) field.value = state[field.name];
  }
  for (const name of Object.keys(table)) table[name] = state[name] ?? table[name];
  if (ids.includes(state.pin)) pinned = ids.indexOf(state.pin);
}
function refilter() {
  const chosen = new Set(round.selected), words = asked.find.toLowerCase();
  shown = [...ids.keys()].filter(task => round.category[task] in asked && (!asked.only || chosen.has(task))
    && (!asked.category || data.tasks.category[task] === asked.category) && texts[task].includes(words));
  rows = shown.filter(task => value("prompt_uncertainty", task) != null)
    .map(task => ({ task, u: value("prompt_uncertainty", task), p: value("prediction_probability", task), colour: colour[task], selected: chosen.has(task), ...round.numbers[task] }));
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${round.category.filter(Boolean).length.toLocaleString("en")} tasks, ${round.selected.length} selected in ${round.name}`;
}
function focus() {
  return [...new Set([hovered, pinned])].filter(task => task != null && value("prompt_uncertainty", task) != null).map(task => {
    const u = value("prompt_uncertainty", task), error = value("standard_error", task) ?? 0;
    return { u, p: value("prediction_probability", task), low: Math.max(0, u - error), high: u + error };
  });
}
const onMap = () => ({ tasks: rows, borders: round.borders, regions: round.regions, focus: focus() });
function point(task) {
  hovered = task;
  Charts.feed("map", { focus: focus() });
  showCard(hovered ?? pinned, round);
}
function pin(task) {
  pinned = task; keep(); point(null); showDetails(task, round);
  for (const row of $("rows").children) row.classList.toggle("pinned", Number(row.dataset.task) === task);
}
function refresh() { read(); keep(); refilter(); Charts.feed("map", onMap()); showCard(pinned, round); fill(); }
function beside() {  // what a round shows beside map and table
  $("round-name").textContent = round.name; form.round.setAttribute("aria-valuetext", round.name);
  ranks(); showDetails(pinned, round);
}

function nearest(event) {
  const view = Charts.view("map");
  if (!view) return null;
  const box = view.container().getBoundingClientRect(), [left, top] = view.origin(), x = view.scale("x"), y = view.scale("y");
  const far = row => Math.hypot(box.left + left + x(row.p) - event.clientX, box.top + top + y(row.u) - event.clientY);
  const [least, task] = rows.reduce((best, row) => far(row) < best[0] ? [far(row), row.task] : best, [20, null]);
  return task;
}
function onKey(event) {
  const by = { ArrowUp: "u", ArrowDown: "u", ArrowLeft: "p", ArrowRight: "p" }[event.key];
  if (event.key === "Escape") pin(null);
  if (!by || !rows.length) return;
  event.preventDefault();
  const order = rows.toSorted((a, b) => a[by] - b[by]), at = order.findIndex(row => row.task === pinned);
  const next = at + (event.key === "ArrowUp" || event.key === "ArrowRight" ? 1 : -1);
  pin((at < 0 ? order.at(-1) : order[next] ?? order[at]).task);
}
function ranks() {
  const found = round.ranks;
  $("ranks-section").hidden = !found;
  if (!found) return;
  const words = `In ${round.name}, ${found.words}: a bar shows the ranks that nine of ten repeats of the measurement would give a task. Bars that cross the dashed line are open.`;
  $("ranks-words").textContent = words;
  Charts.put("ranks", { ranks: found.rows, cut: found.cut }, words);
}

const columns = {  // of the table: a title, and what a task has there
  id: ["task", task => ids[task]],
  map_category: ["on the map", task => round.category[task]],
  category: ["category", task => data.tasks.category[task]],
};
if (!data.tasks.category.some(Boolean)) delete columns.category;
for (const [name, title] of Object.entries(data.columns))
  if (data.rounds.some(each => each.values[name])) columns[name] = [title, task => value(name, task)];
function sorted() {
  const sign = table.down ? -1 : 1, [, cell] = columns[table.sort] ?? columns.id;
  return shown.toSorted((a, b) => {
    const x = cell(a), y = cell(b);
    return x === y ? a - b : x == null ? 1 : y == null ? -1 : x < y ? -sign : sign;
  });
}
function fill() {
  const order = sorted(), pages = Math.max(1, Math.ceil(order.length / 50));
  table.page = Math.min(table.page, pages - 1);
  $("page").textContent = `page ${table.page + 1} of ${pages}`;
  $("previous").disabled = table.page === 0; $("next").disabled = table.page >= pages - 1;
  for (const th of $("head").children) th.ariaSort = th.dataset.name === table.sort ? (table.down ? "descending" : "ascending") : "none";
  $("rows").replaceChildren(...order.slice(50 * table.page, 50 * table.page + 50).map(task => {
    const row = el("tr", "", task === pinned ? "pinned" : ""), chosen = round.selected.includes(task);
    row.dataset.task = task;
    for (const [name, [, cell]] of Object.entries(columns))
      row.append(name in data.columns ? el("td", digits(cell(task)), "n") : el("td", name === "id" ? "" : cell(task) ?? "–"));
    const button = el("button", (chosen ? "● " : "") + ids[task]);
    button.type = "button"; button.dir = "auto";
    if (chosen) button.ariaLabel = `${ids[task]}, selected`;
    button.onclick = () => { pin(task); $("tasks").scrollIntoView(); };
    row.firstChild.append(button);
    return row;
  }));
}
function turn(change) { Object.assign(table, change); keep(); fill(); }
function csv() {
  const quote = text => `"${String(text ?? "").replaceAll('"', '""')}"`;
  const cells = sorted().map(task => [...Object.values(columns).map(([, cell]) => cell(task)), round.selected.includes(task)]);
  const lines = [[...Object.keys(columns), "selected"], ...cells].map(line => line.map(quote).join(",") + "\r\n");
  const link = el("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
  link.download = `${round.name.replaceAll(" ", "-")}.csv`; link.click(); URL.revokeObjectURL(link.href);
}

async function startTasks() {
  for (const name of ["tasks", "table-section"]) $(name).hidden = false;
  $("round-label").hidden = data.rounds.length < 2;
  form.round.max = form.round.value = data.rounds.length - 1;
  for (const category of [...new Set(data.tasks.category)].filter(Boolean).sort()) form.category.add(new Option(category, category));
  const box = (name, text, checked) => {
    const label = el("label"), input = Object.assign(el("input"), { type: "checkbox", name, checked });
    label.append(input, " " + text); $("kinds").append(label);
  };
  for (const kind of Object.keys(data.meanings)) if (data.rounds.some(each => each.category.includes(kind))) box(kind, kind, true);
  if (data.rounds.some(each => each.selected.length)) box("only", "selected only", false);
  for (const [name, [title]] of Object.entries(columns)) {
    const th = el("th", "", name in data.columns ? "n" : ""), button = el("button", title);
    th.dataset.name = name; th.scope = "col"; button.type = "button"; th.append(button); $("head").append(th);
    button.onclick = () => turn({ down: table.sort === name ? !table.down : name in data.columns, sort: name, page: 0 });
  }
  form.onsubmit = event => event.preventDefault();
  form.oninput = event => { table.page = 0; refresh(); if (event.target === form.round) beside(); };
  $("previous").onclick = () => turn({ page: table.page - 1 });
  $("next").onclick = () => turn({ page: table.page + 1 });
  $("csv").onclick = csv;
  $("map").onmousemove = event => { const task = nearest(event); if (task !== hovered) point(task); };
  $("map").onmouseleave = () => point(null);
  $("map").onclick = event => pin(nearest(event));
  $("map").onkeydown = onKey;
  remember(); read(); refilter();
  await Charts.put("map", onMap(), "Task map: prompt uncertainty against prediction probability, a mark per task; the table below holds the same numbers");
  showCard(pinned, round); fill(); beside();
}

if (data.rounds.length) await startTasks();
const sections = { curves: ["curve"], differences: ["differences"], costs: ["seconds", "tokens"] };
for (const [name, keys] of Object.entries(sections)) {
  if (!keys.some(key => data[key]?.length)) continue;
  $(`${name}-section`).hidden = false;
  if (data[`${name}_words`]) $(`${name}-words`).textContent = data[`${name}_words`];
  await Charts.put(name, Object.fromEntries(keys.map(key => [key, data[key] || []])), `${$(`${name}-title`).textContent}: ${describe(name)}`);
}
function describe(name) {
  const words = name === "curves" ? data.curve.map(row => `${row.run} ${row.metric} after ${row.trained} tasks ${row.value.toFixed(1)}`)
    : name === "differences" ? data.differences.map(row => `${row.pair} ${row.value.toFixed(1)}`) : (data.seconds || []).map(row => `${row.round} ${row.what} ${row.amount.toFixed(0)} s`);
  return words.slice(0, 24).join("; ");
}
if (data.facts?.length) {
  $("facts-section").hidden = false;
  for (const [name, fact] of data.facts) $("facts").append(el("dt", name), el("dd", fact));
  $("config").textContent = data.config || ""; $("config").parentElement.hidden = !data.config;
}
document.documentElement.dataset.ready = "yes";
