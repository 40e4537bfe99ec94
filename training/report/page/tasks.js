// One task: the card beside the map, and below it all that is known of it.
const TaskView = (() => {
  let data, blocks = new Map();

  function card(task, round) {
    const card = $("card");
    card.replaceChildren();
    if (task == null) {
      card.append(el("h3", "Point at a task"), el("p", "Its measures and its definition appear here.", "soft"));
      return;
    }
    const scores = data.rounds[round];
    card.append(el("h3", data.tasks.id[task]));
    const kind = scores.category[task];
    const rank = scores.selected.indexOf(task);
    card.append(el("p", kind == null ? "not scored in this round" : `${kind}: ${data.meanings[kind]}${rank < 0 ? "" : `; selected, choice ${rank + 1}`}`));
    const list = el("dl");
    for (const [name, title] of Object.entries(data.columns))
      if (scores.values[name]?.[task] != null) list.append(el("dt", title), el("dd", digits(scores.values[name][task])));
    if (data.tasks.category[task]) list.append(el("dt", "category"), el("dd", data.tasks.category[task]));
    card.append(list);
    if (data.tasks.definition[task]) {
      const definition = el("div", data.tasks.definition[task], "definition");
      definition.tabIndex = 0; definition.dir = "auto";
      definition.setAttribute("role", "region"); definition.setAttribute("aria-label", "Definition");
      card.append(definition);
    }
  }

  async function find(task) {
    const place = data.detailed.indexOf(task);
    if (place < 0) return null;
    const block = Math.floor(place / data.block_tasks);
    if (!blocks.has(block)) blocks.set(block, unpack(`details-${block}`));
    return (await blocks.get(block))[place % data.block_tasks];
  }

  let asked = 0;
  async function details(task, round) {
    const place = $("details"), mine = ++asked;
    Charts.drop("strip");
    if (task == null || !data.round_indices) { place.replaceChildren(); return; }
    const found = await find(task);
    if (mine !== asked) return;  // another task was pinned meanwhile
    place.replaceChildren(el("h3", data.tasks.id[task]));
    if (!found) { place.append(el("p", "Prompts and probabilities are kept for the selected and the most uncertain tasks only.", "soft")); return; }
    const own = found[data.round_indices[round]] || {};
    const pairs = (own.pairs || []).map(([instance, j, p, kept]) => ({ instance, j, p, kind: kept == null ? "perturbed" : kept ? "answer kept" : "answer flips" }));
    if (pairs.length) {
      place.append(el("p", "How likely the model's answer is under every prompt: a ring under the original one, a tick under each perturbed one.", "soft"));
      const strip = el("div", "", "chart"); strip.id = "strip"; place.append(strip);
      const order = [...new Set(pairs.map(pair => pair.instance))];
      Charts.put("strip", { pairs }, `Probabilities of the answers to ${order.length} instances of ${data.tasks.id[task]}`);
    }
    if (found.instances) place.append(el("h3", "Answers"), answers(found, own));
    if (found.prompts) place.append(el("h3", "Prompts"), prompts(found.prompts, pairs));
  }

  function answers(found, own) {
    const list = el("ul", "", "prompts");
    for (const [id, instance] of Object.entries(found.instances)) {
      const item = el("li"), line = (name, text) => { const p = el("div", "", "text"); p.dir = "auto"; p.append(el("b", name + " "), text); item.append(p); };
      item.append(el("div", id, "soft"));
      line("input", instance.input);
      if (instance.gold.length) line("gold", instance.gold.join(" | "));
      if (own.answers?.[id] != null) line("answer", own.answers[id] || "(empty)");
      const said = new Map();
      for (const [which, j, output] of own.samples || [])
        if (which === id && j > 0 && output !== own.answers?.[id]) said.set(output, [...(said.get(output) || []), j]);
      for (const [output, numbers] of said) line(`under prompt ${[...new Set(numbers)].join(", ")}`, output || "(empty)");
      const flips = (own.pairs || []).filter(pair => pair[0] === id && pair[3] === false).map(pair => pair[1]);
      if (flips.length) line("answers otherwise under prompt", flips.join(", "));
      list.append(item);
    }
    return list;
  }

  function prompts(texts, pairs) {
    const list = el("ul", "", "prompts"), original = new Map();
    for (const pair of pairs) if (pair.j === 0) original.set(pair.instance, pair.p);
    for (const [j, text] of Object.entries(texts)) {
      const item = el("li"), body = el("div", "", "text");
      body.dir = "auto";
      const moves = pairs.filter(pair => pair.j === Number(j) && original.has(pair.instance)).map(pair => Math.abs(pair.p - original.get(pair.instance)));
      const mean = moves.reduce((sum, move) => sum + move, 0) / moves.length;
      item.append(el("div", j === "0" ? "0: the original" : `${j}${moves.length ? `: moves p by ${mean.toFixed(4)} on average` : ""}`, "soft"));
      if (j === "0") body.textContent = text;
      else for (const [mark, part] of compare(texts[0], text)) body.append(mark === " " ? part : el(mark === "-" ? "del" : "ins", part));
      item.append(body); list.append(item);
    }
    return list;
  }

  return { start(all) { data = all; }, card, details };
})();
