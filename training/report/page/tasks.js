// One task: the card beside the map, and below it all that is known of it.
const blocks = new Map();
let lookedAt = 0;

function showCard(task, round) {
  const card = $("card");
  if (task == null) {
    card.replaceChildren(el("h3", "Point at a task"), el("p", "Its measures and its definition appear here.", "soft"));
    return;
  }
  const kind = round.category[task], choice = round.selected.indexOf(task) + 1, list = el("dl");
  const place = kind == null ? "not scored in this round" : `${kind}: ${data.meanings[kind]}${choice ? `; selected, choice ${choice}` : ""}`;
  for (const [name, title] of Object.entries(data.columns))
    if (round.values[name]?.[task] != null) list.append(el("dt", title), el("dd", digits(round.values[name][task])));
  if (data.tasks.category[task]) list.append(el("dt", "category"), el("dd", data.tasks.category[task]));
  card.replaceChildren(el("h3", data.tasks.id[task]), el("p", place), list);
  if (data.tasks.definition[task]) {
    const definition = el("div", data.tasks.definition[task], "definition");
    Object.assign(definition, { tabIndex: 0, dir: "auto", role: "region", ariaLabel: "Definition" });
    card.append(definition);
  }
}

async function detailsOf(task) {
  const place = data.detailed.indexOf(task), block = Math.floor(place / data.block_tasks);
  if (place < 0) return null;
  if (!blocks.has(block)) blocks.set(block, unpack(`details-${block}`));
  return (await blocks.get(block))[place % data.block_tasks];
}

async function showDetails(task, round) {
  const place = $("details"), mine = ++lookedAt;
  place.replaceChildren();
  if (task == null || !data.round_indices) return;
  const found = await detailsOf(task);
  if (mine !== lookedAt) return;  // another task was pinned meanwhile
  place.append(el("h3", data.tasks.id[task]));
  if (!found) { place.append(el("p", "Prompts and probabilities are kept for the selected and the most uncertain tasks only.", "soft")); return; }
  const own = found[data.round_indices[data.rounds.indexOf(round)]] || {};
  const pairs = (own.pairs || []).map(([instance, j, p, kept]) => ({ instance, j, p, kind: kept == null ? "perturbed" : kept ? "answer kept" : "answer flips" }));
  if (pairs.length) {
    place.append(el("p", `How likely the ${own.gold ? "gold output" : "model's answer"} is under every prompt: a ring under the original one, a tick under each perturbed one.`, "soft"));
    const strip = el("div", "", "chart"), instances = new Set(pairs.map(pair => pair.instance));
    strip.id = "strip"; place.append(strip);
    Charts.put("strip", { pairs }, `Probabilities of the ${own.gold ? "gold outputs of" : "answers to"} ${instances.size} instances of ${data.tasks.id[task]}`);
  }
  if (found.instances) place.append(el("h3", "Answers"), answers(found, own));
  if (!found.prompts) return;
  place.append(el("h3", "Prompts"), prompts(found.prompts, pairs));
  if (found.fewer.length) place.append(el("p", `Prompts of these instances had room for fewer examples: ${found.fewer.join(", ")}.`, "soft"));
}

function answers(found, own) {
  const list = el("ul", "", "prompts");
  for (const [id, instance] of Object.entries(found.instances)) {
    const item = el("li"), answer = own.answers?.[id], said = new Map();
    const line = (name, text) => { const p = el("div", "", "text"); p.dir = "auto"; p.append(el("b", name + " "), text); item.append(p); };
    item.append(el("div", id, "soft"));
    line("input", instance.input);
    if (instance.gold.length) line("gold", instance.gold.join(" | "));
    if (answer != null) line(own.gold ? "scored gold output" : "answer", answer || "(empty)");
    for (const [which, j, output] of own.samples || [])
      if (which === id && j > 0 && output !== answer) said.set(output, (said.get(output) ?? new Set()).add(j));
    for (const [output, numbers] of said) line(`under prompt ${[...numbers].join(", ")}`, output || "(empty)");
    const flips = (own.pairs || []).filter(pair => pair[0] === id && pair[3] === false).map(pair => pair[1]);
    if (flips.length) line("answers otherwise under prompt", flips.join(", "));
    list.append(item);
  }
  return list;
}

function prompts(texts, pairs) {
  const list = el("ul", "", "prompts");
  const original = Object.fromEntries(pairs.filter(pair => pair.j === 0).map(pair => [pair.instance, pair.p]));
  for (const [j, text] of Object.entries(texts)) {
    const item = el("li"), body = el("div", "", "text");
    body.dir = "auto";
    const moves = pairs.filter(pair => pair.j === Number(j) && pair.instance in original).map(pair => Math.abs(pair.p - original[pair.instance]));
    const mean = moves.reduce((sum, move) => sum + move, 0) / moves.length;
    item.append(el("div", j === "0" ? "0: the original" : `${j}${moves.length ? `: moves p by ${mean.toFixed(4)} on average` : ""}`, "soft"));
    for (const [mark, part] of compare(texts[0], text)) body.append(mark === " " ? part : el(mark === "-" ? "del" : "ins", part));
    item.append(body); list.append(item);
  }
  return list;
}

/** Words of two texts: [mark, word] with mark " " for both, "-" for the first alone, "+" for the other. */
function compare(before, after) {
  const a = before.split(/(\s+)/), b = after.split(/(\s+)/), width = b.length + 1, parts = [];
  if (a.length * width > 1e8) return [["-", before], ["+", after]];
  // How many words the ends of both have in common, from every two places on.
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      common[at] = a[i] === b[j] ? common[at + width + 1] + 1 : Math.max(common[at + width], common[at + 1]);
    }
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const at = i * width + j, less = j === b.length || (i < a.length && common[at + width] >= common[at + 1]);
    const mark = a[i] === b[j] ? " " : less ? "-" : "+";
    parts.push([mark, mark === "+" ? b[j] : a[i]]);
    if (mark !== "+") i++;
    if (mark !== "-") j++;
  }
  return parts;
}
