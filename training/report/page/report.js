// The page: what is filtered, pinned and shown; its state stands in the address, so a reload keeps it.
(async () => {
  const data = await unpack("data"), kinds = ["ambiguous", "easy", "difficult", "unmeasurable"];
  Charts.start(data); TaskView.start(data);
  $("about").textContent = data.about;
  const ids = data.tasks.id, state = { round: Math.max(0, data.rounds.length - 1), find: "", category: "", hide: [], only: false, pin: null, sort: "prompt_uncertainty", down: true, page: 0 };
  try { Object.assign(state, JSON.parse(decodeURIComponent(location.hash.slice(1)))); } catch { /* no state of ours */ }
  if (!data.rounds[state.round]) state.round = Math.max(0, data.rounds.length - 1);
  let pinned = ids.indexOf(state.pin), hovered = null, shown = [], dots = [];
  if (pinned < 0) pinned = null;
  const now = () => data.rounds[state.round], value = (name, task) => now().values[name]?.[task] ?? null;
  // A task keeps its colour from round to round: its category when it was first on the map.
  const colour = ids.map((_, task) => data.rounds.map(round => round.category[task]).find(kind => kind && kind !== "unmeasurable"));
  const texts = ids.map((id, task) => [id, data.tasks.category[task] || "", data.tasks.definition[task] || ""].join("\n").toLowerCase());

  function keep() {
    state.pin = pinned == null ? null : ids[pinned];
    history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(state)));
  }
  function refilter() {
    const round = now(), chosen = new Set(round.selected), words = state.find.toLowerCase();
    shown = ids.map((_, task) => task).filter(task => round.category[task] && !state.hide.includes(round.category[task])
      && (!state.only || chosen.has(task)) && (!state.category || data.tasks.category[task] === state.category) && (!words || texts[task].includes(words)));
    dots = shown.filter(task => value("prompt_uncertainty", task) != null);
    rows = dots.map(task => ({ task, u: value("prompt_uncertainty", task), p: value("prediction_probability", task), colour: colour[task], selected: chosen.has(task), ...round.numbers[task] }));
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${round.category.filter(Boolean).length.toLocaleString("en")} tasks, ${round.selected.length} selected in ${round.name}`;
  }
  let rows = [];
  function focus() {
    return [...new Set([hovered, pinned])].filter(task => task != null && value("prompt_uncertainty", task) != null && now().category[task]).map(task => {
      const u = value("prompt_uncertainty", task), error = value("standard_error", task) ?? 0;
      return { u, p: value("prediction_probability", task), low: Math.max(0, u - error), high: u + error };
    });
  }
  const onMap = () => ({ tasks: rows, borders: now().borders, regions: now().regions, focus: focus() });
  const card = () => TaskView.card(hovered ?? pinned, state.round);
  function point() { Charts.feed("map", { focus: focus() }); card(); }
  function pin(task) {
    pinned = task; hovered = null; keep(); point(); TaskView.details(task, state.round);
    for (const row of $("rows").children) row.classList.toggle("pinned", Number(row.dataset.task) === task);
  }
  function refresh() { keep(); refilter(); Charts.feed("map", onMap()); card(); table(); }
  function beside() {  // what a round shows beside map and table
    $("round-name").textContent = now().name; $("round").setAttribute("aria-valuetext", now().name);
    ranks(); TaskView.details(pinned, state.round);
  }

  function pointing(view) {
    const near = event => {
      const box = view.container().getBoundingClientRect(), [left, top] = view.origin(), x = view.scale("x"), y = view.scale("y");
      let best = null, least = 20 * 20;
      for (const row of rows) {
        const d = (box.left + left + x(row.p) - event.clientX) ** 2 + (box.top + top + y(row.u) - event.clientY) ** 2;
        if (d < least) { least = d; best = row.task; }
      }
      return best;
    };
    const element = view.container();
    element.onmousemove = event => { const task = near(event); if (task !== hovered) { hovered = task; point(); } };
    element.onmouseleave = () => { hovered = null; point(); };
    element.onclick = event => pin(near(event));
    element.onkeydown = event => {
      const by = { ArrowUp: "u", ArrowDown: "u", ArrowLeft: "p", ArrowRight: "p" }[event.key];
      if (event.key === "Escape") pin(null);
      if (!by || !rows.length) return;
      event.preventDefault();
      const order = [...rows].sort((a, b) => a[by] - b[by]), at = order.findIndex(row => row.task === pinned);
      const step = event.key === "ArrowUp" || event.key === "ArrowRight" ? 1 : -1;
      pin(order[at < 0 ? order.length - 1 : Math.min(order.length - 1, Math.max(0, at + step))].task);
    };
  }
  function ranks() {
    const found = now().ranks;
    $("ranks-section").hidden = !found;
    if (!found) { Charts.drop("ranks"); return; }
    const words = `In ${now().name}, ${found.words}: a bar shows the ranks that nine of ten repeats of the measurement would give a task. Bars that cross the dashed line are open.`;
    $("ranks-words").textContent = words;
    Charts.put("ranks", { ranks: found.rows, cut: found.cut }, words);
  }

  const names = ["id", "map_category", "category", ...Object.keys(data.columns)];
  const used = names.filter(name => name === "category" ? data.tasks.category.some(Boolean) : !(name in data.columns) || data.rounds.some(round => round.values[name]));
  const cell = (name, task) => name === "id" ? ids[task] : name === "map_category" ? now().category[task] : name === "category" ? data.tasks.category[task] : value(name, task);
  const title = name => ({ id: "task", map_category: "on the map", category: "category" })[name] ?? data.columns[name];
  function sorted() {
    const sign = state.down ? -1 : 1;
    return [...shown].sort((a, b) => {
      const x = cell(state.sort, a), y = cell(state.sort, b);
      return x === y ? a - b : x == null ? 1 : y == null ? -1 : x < y ? -sign : sign;
    });
  }
  function table() {
    const order = sorted(), pages = Math.max(1, Math.ceil(order.length / 50)), chosen = new Set(now().selected);
    state.page = Math.min(state.page, pages - 1);
    $("page").textContent = `page ${state.page + 1} of ${pages}`;
    $("previous").disabled = state.page === 0; $("next").disabled = state.page >= pages - 1;
    for (const th of $("head").children) th.setAttribute("aria-sort", th.dataset.name === state.sort ? (state.down ? "descending" : "ascending") : "none");
    $("rows").replaceChildren(...order.slice(50 * state.page, 50 * state.page + 50).map(task => {
      const row = el("tr", "", task === pinned ? "pinned" : ""); row.dataset.task = task;
      for (const name of used) {
        const found = cell(name, task);
        if (name === "id") {
          const td = el("td"), button = el("button", (chosen.has(task) ? "● " : "") + found);
          button.type = "button"; button.dir = "auto"; td.append(button);
          if (chosen.has(task)) button.setAttribute("aria-label", `${found}, selected`);
          button.onclick = () => { pin(task); $("tasks").scrollIntoView(); };
          row.append(td);
        } else row.append(name in data.columns ? el("td", digits(found), "n") : el("td", found ?? "–"));
      }
      return row;
    }));
  }
  function csv() {
    const quote = text => `"${String(text ?? "").replaceAll('"', '""')}"`;
    const lines = [[...used, "selected"].map(quote), ...sorted().map(task => [...used.map(name => quote(cell(name, task))), quote(now().selected.includes(task))])];
    const link = el("a");
    link.href = URL.createObjectURL(new Blob([lines.map(line => line.join(",") + "\r\n").join("")], { type: "text/csv" }));
    link.download = `${now().name.replaceAll(" ", "-")}.csv`; link.click(); URL.revokeObjectURL(link.href);
  }

  async function startTasks() {
    for (const name of ["tasks", "table-section"]) $(name).hidden = false;
    $("round-label").hidden = data.rounds.length < 2;
    $("round").max = data.rounds.length - 1; $("round").value = state.round;
    $("round").oninput = event => { state.round = Number(event.target.value); refresh(); beside(); };
    $("find").value = state.find;
    $("find").oninput = event => { state.find = event.target.value; state.page = 0; refresh(); };
    $("filters").onsubmit = event => event.preventDefault();
    for (const category of [...new Set(data.tasks.category)].filter(Boolean).sort()) { const option = el("option", category); option.value = category; $("category").append(option); }
    $("category").value = state.category;
    $("category").oninput = event => { state.category = event.target.value; state.page = 0; refresh(); };
    const box = (name, on, change) => {
      const label = el("label"), input = el("input");
      input.type = "checkbox"; input.checked = on;
      input.onchange = () => { change(input.checked); state.page = 0; refresh(); };
      label.append(input, " " + name); $("kinds").append(label);
    };
    for (const kind of kinds) if (data.rounds.some(round => round.category.includes(kind)))
      box(kind, !state.hide.includes(kind), on => { state.hide = state.hide.filter(other => other !== kind).concat(on ? [] : [kind]); });
    if (data.rounds.some(round => round.selected.length)) box("selected only", state.only, on => { state.only = on; });
    for (const name of used) {
      const th = el("th", "", name in data.columns ? "n" : ""), button = el("button", title(name));
      th.dataset.name = name; th.scope = "col"; button.type = "button"; th.append(button); $("head").append(th);
      button.onclick = () => { Object.assign(state, { down: state.sort === name ? !state.down : name in data.columns, sort: name, page: 0 }); keep(); table(); };
    }
    $("previous").onclick = () => { state.page--; keep(); table(); };
    $("next").onclick = () => { state.page++; keep(); table(); };
    $("csv").onclick = csv;
    refilter();
    await Charts.put("map", onMap(), "Task map: prompt uncertainty against prediction probability, a mark per task; the table below holds the same numbers", pointing);
    card(); table(); beside();
  }

  if (data.rounds.length) await startTasks();
  const sections = { curves: ["curve"], differences: ["differences"], costs: ["seconds", "tokens"] };
  for (const [name, keys] of Object.entries(sections)) {
    if (!keys.some(key => data[key]?.length)) continue;
    $(`${name}-section`).hidden = false;
    await Charts.put(name, Object.fromEntries(keys.map(key => [key, data[key] || []])), `${$(`${name}-title`).textContent}: ${describe(name)}`);
  }
  function describe(name) {
    const words = name === "curves" ? data.curve.map(row => `${row.run} ${row.metric} after ${row.trained} tasks ${row.value.toFixed(1)}`)
      : name === "differences" ? data.differences.map(row => `${row.pair} ${row.value.toFixed(1)}`) : (data.seconds || []).map(row => `${row.round} ${row.what} ${row.amount.toFixed(0)} s`);
    return words.slice(0, 24).join("; ");
  }
  if (data.curve_words) $("curves-words").textContent = data.curve_words;
  if (data.differences_words) $("differences-words").textContent = data.differences_words;
  if (data.facts?.length) {
    $("facts-section").hidden = false;
    for (const [name, fact] of data.facts) $("facts").append(el("dt", name), el("dd", fact));
    $("config").textContent = data.config || ""; $("config").parentElement.hidden = !data.config;
  }
  document.documentElement.dataset.ready = "yes";
})();
