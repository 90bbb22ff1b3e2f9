"use strict";
// Data are scripts that assign to `report`: a page opened from file:// may run scripts but not fetch files.
const report = { suites: {}, galleries: {}, runs: {} };

const $ = (id) => document.getElementById(id);

// ---- theme: the system's, unless chosen ----
const dark = matchMedia("(prefers-color-scheme: dark)");
function stored(value) {
  try {
    if (value) localStorage.setItem("fmri-bench-theme", value);
    return localStorage.getItem("fmri-bench-theme");
  } catch { return null; }  // storage is off: the choice lasts as long as the page
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  if ($("theme")) $("theme").setAttribute("aria-pressed", name === "dark");
}
const systemTheme = () => (dark.matches ? "dark" : "light");
setTheme(stored() || systemTheme());
dark.addEventListener("change", () => { if (!stored()) setTheme(systemTheme()); });

// ---- small tools ----
// An element; text is set as text, so that no name in the data can be markup.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== ""));
  return element;
}
const number = (v) => (v == null ? "–" : Math.abs(v) >= 10 ? v.toFixed(1) : v.toFixed(3));
const arrow = (higher) => (higher === true ? "↑" : higher === false ? "↓" : "");
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
// The same order every time: mulberry32 by a seed.
function shuffled(list, seed) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}
// Missing values come last whichever way the rest is sorted.
function compare(a, b, descending) {
  if (a == null || b == null) return (a == null) - (b == null);
  const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return descending ? -order : order;
}
const matches = (text, wanted) => wanted.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
const wanted = () => $("filter").value.trim();
const controls = () => $("controls").checked;
const say = (text) => { $("status").textContent = text; };

// What a script of its own assigns to `found[key]`, read when it is first asked for; null where it cannot be.
function load(found, key, file) {
  if (found[key]) return Promise.resolve(found[key]);
  return new Promise((done) => {
    const script = h("script", { src: file, onload: () => done(found[key] || null), onerror: () => done(null) });
    document.head.append(script);
  });
}
const lost = (file) => h("p", {}, `${file} cannot be read: the folder must be kept whole.`);
// HTML of the report's own markdown, in which names of the data are text. Wide tables scroll on their own.
function prose(html) {
  const part = h("div", { class: "prose" });
  part.innerHTML = html;
  for (const table of part.querySelectorAll("table")) {
    const place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "table" });
    table.replaceWith(place);
    place.append(table);
  }
  return part;
}

// ---- boards ----
function columnsOf(table) {
  const found = [
    { title: "rank", get: (r) => r.rank, show: (r) => r.rank ?? unfinished(r) ?? "–", higher: false },
    { title: "method", get: (r) => r.label, text: true, higher: false },
  ];
  const ends = table.rows.flatMap((r) => r.interval || []);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  for (const c of table.columns) {
    const get = (r) => r.metrics[c.name]?.value;
    const title = `${c.name} ${arrow(c.higher)}`;
    found.push({ title, get, show: (r) => number(get(r)), higher: c.higher, note: c.note, chance: c.chance });
    if (c.name === table.ranked && table.interval) {
      const show = (r) => interval(r, get(r), low, high);
      found.push({ title: table.interval, get: (r) => r.interval?.[0], show, higher: c.higher });
    }
  }
  found.push(
    { title: "items", get: (r) => r.n, higher: true },
    { title: "subjects", get: (r) => r.n_subjects, higher: true },
    { title: "seconds", get: (r) => r.seconds, higher: false },
    { title: "MB", get: (r) => r.mb, show: (r) => r.mb.toFixed(0), higher: false },
    { title: "tags", get: (r) => tagsOf(r).join(", ") || null, text: true, show: (r) => tagsOf(r).map(tag), higher: false },
  );
  return found;
}
const tagsOf = (r) => [...r.tags, ...(r.missing.length ? ["incomplete"] : []), ...(r.control ? ["control"] : [])];
const tag = (name) => h("span", { class: "tag" }, name);
// Why a row has no value at all: what became of its first run.
const unfinished = (r) => (r.n_subjects ? null : r.runs[0].status);
const labelOf = (r) => r.label + (r.profile === "mini" ? "" : ` (${r.profile})`);
const ends = (interval) => (interval ? `${number(interval[0])} to ${number(interval[1])}` : "–");
function interval(row, value, low, high) {
  if (!row.interval) return "–";
  const place = (v) => (high > low ? (100 * (v - low)) / (high - low) : 50);
  const line = h("i"), dot = h("b");
  line.style.left = `${place(row.interval[0])}%`;
  line.style.width = `${place(row.interval[1]) - place(row.interval[0])}%`;
  dot.style.left = `${place(value)}%`;
  return [ends(row.interval), h("span", { class: "span", "aria-hidden": "true" }, line, dot)];
}

function drawBoards(suite) {
  for (const table of suite.tables) $("main").append(board(suite, table));
}
function board(suite, table) {
  const columns = columnsOf(table);
  let by = null, descending = false;  // null: the board's own order
  const open = new Set();
  const name = `${table.dataset}, ${table.track}`;
  const nameOf = (c) => c.title + (c.note ? "†" : "");
  const heads = columns.map((c) => {
    const kind = `${c.text ? "text" : ""} ${c.title === "method" ? "stay" : ""}`;
    const button = h("button", { type: "button", title: c.note || null, onclick: () => sort(c) }, nameOf(c));
    return h("th", { scope: "col", class: kind }, button);
  });
  const body = h("tbody");
  const foot = h("tr", {}, columns.map((c, i) => (i === 1
    ? h("th", { scope: "row", class: "text stay" }, "chance level")
    : h("td", {}, c.chance == null ? "" : number(c.chance)))));
  function sort(c) {
    descending = by === c ? !descending : c.higher === true;
    by = c;
    fill();
  }
  const subjects = bySubject(table);
  function fill() {
    const text = (r) => [r.label, r.profile, ...tagsOf(r)].join(" ");
    const rows = table.rows.filter((r) => (controls() || !r.control) && matches(text(r), wanted()));
    if (by) rows.sort((a, b) => compare(by.get(a), by.get(b), descending));
    subjects?.fill(rows);
    const tier = (r, before) => !by && before && (r.rank !== before.rank || r.control !== before.control);
    body.replaceChildren(...rows.flatMap((r, i) => line(r, tier(r, rows[i - 1]))));
    columns.forEach((c, i) => {
      const [state, mark] = by !== c ? ["none", ""] : descending ? ["descending", " ▼"] : ["ascending", " ▲"];
      heads[i].setAttribute("aria-sort", state);
      heads[i].firstChild.textContent = nameOf(c) + mark;
    });
    return rows.length;
  }
  function line(r, tier) {
    const label = labelOf(r);
    const toggle = () => {
      open.delete(r) || open.add(r);
      fill();
      [...body.querySelectorAll("th button")].find((b) => b.textContent === label)?.focus();
    };
    const cells = columns.map((c) => {
      if (c.title !== "method") return h("td", { class: c.text ? "text" : "" }, c.show ? c.show(r) : c.get(r) ?? "–");
      const button = h("button", { type: "button", "aria-expanded": String(open.has(r)), onclick: toggle }, label);
      return h("th", { scope: "row", class: "text stay" }, button);
    });
    const row = h("tr", { class: `${r.control ? "control" : ""} ${tier ? "tier" : ""}` }, cells);
    return open.has(r) ? [row, h("tr", { class: "more" }, h("td", { colspan: columns.length }, h("div", { class: "inner" }, more(suite, table, r))))] : [row];
  }
  redraws.push(() => `${plural(fill(), "row")} of ${name}`);
  const notes = [...new Set(table.columns.map((c) => c.note).filter(Boolean))];
  return h("section", { "aria-label": name },
    h("h2", {}, `${name} `, h("small", { class: "muted" }, `${table.split}, suite ${suite.name} ${table.version}`)),
    h("p", {}, "Ranked by ", h("b", {}, table.ranked), ". ",
      `${plural(table.subjects.length, "subject")} (${table.subjects.join(", ")}), ${plural(table.seeds.length, "seed")}. `,
      table.interval ? `The interval is over ${table.over}. Methods that share a rank cannot be told apart from the first of them.` : ""),
    h("p", { class: "muted" }, table.protocol),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `table of ${name}` },
      h("table", {}, h("thead", {}, h("tr", {}, heads)), body, h("tfoot", {}, foot))),
    notes.map((note) => h("p", { class: "muted" }, `† ${note}`)),
    Object.entries(table.tags).map(([key, text]) => h("p", { class: "muted" }, tag(key), ` ${text}`)),
    subjects?.element,
    table.sections.map((x) => h("details", {}, h("summary", {}, x.title), prose(x.html))));
}
// Every subject's value of a metric of choice, for the rows that the board shows.
function bySubject(table) {
  if (table.subjects.length < 2) return null;
  const body = h("tbody"), head = h("thead");
  let metric = table.ranked, rows = [];
  function fill(shown = rows) {
    rows = shown;
    const spans = rows.some((r) => r.metrics[metric]?.interval);
    const cells = (r, m) => [number(m.value), ...(spans ? [ends(m.interval)] : []), ...table.subjects.map((s) => number(m.subjects[s]))];
    const names = ["method", "mean", ...(spans ? ["95% interval"] : []), ...table.subjects];
    head.replaceChildren(h("tr", {}, names.map((x, i) => h("th", { scope: "col", class: i ? "" : "text stay" }, x))));
    body.replaceChildren(...rows.filter((r) => r.metrics[metric]).map((r) => h("tr", { class: r.control ? "control" : "" },
      h("th", { scope: "row", class: "text stay" }, labelOf(r)), cells(r, r.metrics[metric]).map((x) => h("td", {}, x)))));
  }
  const id = `subjects-${table.dataset}-${table.track}-${table.split}`;
  const field = h("select", { id, onchange: () => { metric = field.value; fill(); } }, table.columns.map((c) => h("option", {}, c.name)));
  const element = h("details", {}, h("summary", {}, "By subject"),
    h("p", {}, h("label", { for: id }, "metric "), field),
    h("p", { class: "muted" }, "Means over seeds. From three subjects on, the interval is that of their mean."),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "values by subject" }, h("table", {}, head, body)));
  return { element, fill };
}
// What a row is made of: every run, every subject, and what a rank would need.
function more(suite, table, r) {
  const status = (x) => x.status + (x.reason ? `: ${x.reason}` : "");
  const cells = (list, kind = "td") => h("tr", {}, list.map((x) => h(kind, { class: "text" }, x.tagName ? x : String(x))));
  const long = (text) => h("span", { class: "long" }, text);
  return [
    r.missing.length ? h("p", {}, `Not ranked, lacks: ${r.missing.join(", ")}`) : null,
    r.undefined.length ? h("p", {}, `Not defined for it: ${r.undefined.join(", ")}`) : null,
    h("table", {}, h("thead", {}, cells(["run (opens its card)", "subject", "seed", "status", "date", "commit"], "th")),
      h("tbody", {}, r.runs.map((x) => cells([cardLink(suite.name, x.run_id, x.run_id), x.subject, x.seed, long(status(x)), x.date.slice(0, 10), x.commit])))),
  ];
}


// ---- a run: its card and its figures ----
const cardLink = (suite, id, text) => h("a", { href: `#run/${suite}/${id}`, title: "the card of this run" }, text);

async function drawRun(suite, id) {
  const file = `data/${encodeURIComponent(suite.name)}/runs/${id}.js`;
  const found = await load(report.runs, id, file);
  if (!found) { $("main").append(lost(file)); return; }
  const card = `data:application/json;charset=utf-8,${encodeURIComponent(found.json)}`;
  $("main").append(h("h2", {}, found.title),
    h("p", {}, h("a", { href: card, download: "card.json" }, "save card.json"), h("span", { class: "muted" }, ` · in the store: ${found.path}`)),
    found.left_out ? h("p", { class: "muted" }, `${plural(found.left_out, "figure")} of this run: with bench report --all, or in the store.`) : "",
    h("div", { class: "figures" }, found.figures.map((x) => h("figure", {}, h("img", { src: x.file, alt: x.name, loading: "lazy" }), h("figcaption", {}, x.name)))),
    prose(found.html));
  redraws.push(() => `card of ${found.title}`);
}

// ---- gallery ----
const view = { key: "", gallery: null, order: "worst", method: "", metric: "", seed: 1, shown: [], at: -1 };

// One picture of a sheet, as the background of an element of `width` pixels.
function picture(sheet, row, width, label) {
  const [w, hgt] = sheet.size, scale = width / w;
  const tile = h("div", { class: `tile ${w <= 32 ? "exact" : ""}`, role: "img", "aria-label": label });
  const place = row % sheet.per;
  tile.style.width = `${width}px`;
  tile.style.height = `${hgt * scale}px`;
  tile.style.backgroundImage = `url("${sheet.files[Math.floor(row / sheet.per)]}")`;
  tile.style.backgroundSize = `${sheet.columns * sheet.pitch[0] * scale}px auto`;
  const corner = [place % sheet.columns, Math.floor(place / sheet.columns)].map((k, axis) => -(k * sheet.pitch[axis] + sheet.margin) * scale);
  tile.style.backgroundPosition = `${corner[0]}px ${corner[1]}px`;
  return tile;
}
function stimulus(g, i, width) {
  const item = g.items[i];
  return g.stimuli ? picture(g.stimuli, i, width, `stimulus ${item.name}`) : h("span", { class: "word" }, item.word || item.name);
}
const runsOf = (g) => g.runs.filter((r) => controls() || !r.control);
const valueOf = (run, path, i) => { const [track, metric] = path.split("/"); return run?.scores[track]?.[metric]?.[i]; };
const higherOf = (g, path) => { const [track, metric] = path.split("/"); return g.directions[track]?.[metric] !== false; };
// Metrics that have item values of the chosen method, the ranked ones first.
function metricsOf(g, run) {
  const paths = Object.entries(run?.scores || {}).flatMap(([track, found]) => Object.keys(found).map((m) => `${track}/${m}`));
  const first = (path) => { const [track, metric] = path.split("/"); return g.ranked[track] === metric ? (track === "reconstruction" ? 0 : 1) : 2; };
  return paths.sort((a, b) => first(a) - first(b));
}
function select(label, options, value, change) {
  const id = `choose-${label}`;
  const field = h("select", { id, onchange: () => change(field.value) }, options.map(([v, text]) => h("option", { value: v }, text)));
  field.value = value;
  return h("span", {}, h("label", { for: id }, `${label} `), field);
}

const addressOf = (row) => `#gallery/${view.key}/${encodeURIComponent(view.gallery.items[row].id)}`;

async function drawGallery(suite, key) {
  const entry = suite.galleries.find((g) => g.key === key) || suite.galleries[0];
  if (!entry) { $("main").append(h("p", {}, "No finished run: there is nothing to show.")); return; }
  const g = await load(report.galleries, entry.key, entry.file);
  if (!g) { $("main").append(lost(entry.file)); return; }
  view.gallery = g;
  view.key = entry.key;
  const bar = h("div", { class: "bar" }), grid = h("ul", { class: "grid", "aria-label": "test items" });
  $("main").append(h("h2", {}, g.title), g.notes.length ? h("div", { class: "notes" }, g.notes.map((n) => h("p", {}, n))) : "", bar, grid);
  function fill() {
    const runs = runsOf(g);
    const run = runs.find((r) => r.label === view.method) || runs[0];
    const paths = metricsOf(g, run);
    view.method = run?.label || "";
    view.metric = paths.includes(view.metric) ? view.metric : paths[0] || "";
    const change = (name) => (value) => { view[name] = value; fill(); $(`choose-${name}`)?.focus(); };
    bar.replaceChildren(
      select("data", suite.galleries.map((x) => [x.key, x.title]), view.key, (k) => { location.hash = `#gallery/${k}`; }),
      select("order", [["worst", "worst first"], ["best", "best first"], ["random", "random"], ["listed", "as in the split"]], view.order, change("order")),
      select("method", runs.map((r) => [r.label, r.label]), view.method, change("method")),
      select("metric", paths.map((p) => [p, p.replace("/", ": ")]), view.metric, change("metric")),
      view.order === "random" ? h("button", { type: "button", onclick: () => { view.seed++; fill(); } }, "shuffle again") : "",
    );
    const value = (i) => valueOf(run, view.metric, i);
    const text = (item) => [item.name, item.word || "", ...(item.captions || [])].join(" ");
    let rows = g.items.map((_, i) => i).filter((i) => matches(text(g.items[i]), wanted()));
    if (view.order === "random") rows = shuffled(rows, view.seed);
    const descending = (view.order === "best") === higherOf(g, view.metric);
    if (["best", "worst"].includes(view.order)) rows.sort((a, b) => compare(value(a), value(b), descending) || a - b);
    view.shown = rows;
    const predicted = g.stimuli ? null : run?.pictures[0];  // better than nothing
    grid.replaceChildren(...rows.map((i) => h("li", {}, h("button", { type: "button", "data-row": i, onclick: () => { location.hash = addressOf(i); } },
      predicted ? picture(predicted, i, 96, `${run.label}, ${g.items[i].name}`) : stimulus(g, i, 96),
      h("span", {}, g.items[i].name), h("span", { class: "muted" }, number(value(i)))))));
    return rows.length;
  }
  redraws.push(() => `${plural(fill(), "item")} of ${g.title}`);
}
function drawItem(row) {
  const g = view.gallery, item = g.items[row], runs = runsOf(g);
  view.at = view.shown.indexOf(row);
  const retrieved = (run, track) => run.retrieved[track].best[row].map((k, place) => {
    const good = g.items[k].stimulus === item.stimulus;
    const shown = stimulus(g, k, 56);
    if (good) shown.classList.add("right");
    return h("figure", {}, shown, h("figcaption", { class: good ? "good" : "" }, good ? `${place + 1} ✓` : `${place + 1}`));
  });
  const ranked = (run) => Object.entries(g.ranked).filter(([track, metric]) => run.scores[track]?.[metric])
    .map(([track, metric]) => `${track}: ${metric} ${number(valueOf(run, `${track}/${metric}`, row))}`).join("; ");
  const card = (run) => h("article", { class: "card" },
    h("h3", {}, cardLink(view.key.split("/")[0], run.run_id, run.label), run.tags.map(tag), run.control ? tag("control") : ""),
    h("p", { class: "muted" }, ranked(run)),
    h("div", { class: "row" }, run.pictures.map((sheet) => h("figure", {},
      picture(sheet, row, sheet.name ? 72 : 144, `${run.label}, ${sheet.name || "reconstruction"}`),
      sheet.name ? h("figcaption", { class: "stage" }, sheet.name) : ""))),
    run.captions ? [h("h4", {}, "predicted caption"), h("p", {}, run.captions[row])] : "",
    Object.keys(run.retrieved).map((track) => [
      h("h4", {}, `retrieved (${track}): the right one is rank ${run.retrieved[track].rank[row]} of ${run.retrieved[track].of[row]}`),
      h("div", { class: "row" }, retrieved(run, track))]),
    run.why ? h("p", { class: "muted" }, run.why) : "");
  const step = (text, label, by) => h("button", { type: "button", "aria-label": label, onclick: () => move(by) }, text);
  $("item").replaceChildren(
    h("div", { class: "head" }, h("h2", { id: "item-title" }, item.word ? `${item.word} (${item.name})` : item.name),
      h("span", { class: "muted" }, view.at < 0 ? "" : `${view.at + 1} of ${view.shown.length}`),
      step("← previous", "previous item", -1), step("next →", "next item", 1),
      h("button", { type: "button", onclick: () => $("item").close() }, "close")),
    h("div", { class: "inside" },
      h("div", { class: "pair" }, g.stimuli ? h("figure", {}, stimulus(g, row, 192), h("figcaption", {}, "stimulus")) : "",
        item.captions ? h("div", {}, h("h4", {}, "its captions"), h("ul", {}, item.captions.map((c) => h("li", {}, c)))) : ""),
      h("div", { class: "cards" }, runs.map(card)), scores(g, runs, row)));
  if (!$("item").open) $("item").showModal();
  $("item").scrollTop = 0;
  say(`item ${item.name}`);
}
// Every value of the item, methods in columns; the best of a line is marked.
function scores(g, runs, row) {
  const tracks = Object.keys(g.directions).sort((a, b) => (b === "reconstruction") - (a === "reconstruction"));
  const lines = tracks.flatMap((track) => Object.keys(g.directions[track]).map((m) => `${track}/${m}`))
    .filter((path) => runs.some((r) => valueOf(r, path, row) != null));
  const line = (path) => {
    const values = runs.map((r) => valueOf(r, path, row)), [track, metric] = path.split("/");
    const known = values.filter((v, k) => v != null && !runs[k].control), higher = g.directions[track][metric];
    const best = higher == null || new Set(known).size < 2 ? null : Math[higher ? "max" : "min"](...known);
    return h("tr", {}, h("th", { scope: "row", class: "text stay" }, `${track}: ${metric} ${arrow(higher)}`),
      values.map((v, k) => h("td", { class: v != null && v === best && !runs[k].control ? "best" : "" }, number(v))));
  };
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "scores of this item" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "text stay" }, "this item"), runs.map((r) => h("th", { scope: "col" }, r.label)))),
    h("tbody", {}, lines.map(line))));
}
function move(by) {
  const next = view.shown[view.at + by];
  if (next != null) location.replace(addressOf(next));
}

// ---- the address decides what is shown: #boards/SUITE, #gallery/SUITE/NUMBER[/ITEM], #run/SUITE/RUN ----
let redraws = [], drawn = "";
const redraw = () => say(redraws.map((f) => f()).join("; "));
async function route() {
  const names = Object.keys(report.suites);
  const [kind, name, place, item] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const suite = report.suites[name] || report.suites[names[0]];
  const page = kind === "gallery" ? `gallery/${suite.name}/${place || 0}` : kind === "run" ? `run/${suite.name}/${place}` : `boards/${suite.name}`;
  if (page !== drawn) {
    drawn = page;
    redraws = [];
    $("main").replaceChildren();
    const link = (k, text) => h("a", { href: `#${k}`, "aria-current": page.startsWith(k) ? "page" : null }, text);
    $("nav").replaceChildren(...names.flatMap((s) => [link(`boards/${s}`, `${s}: boards`), link(`gallery/${s}`, `${s}: gallery`)]));
    if (kind === "gallery") await drawGallery(suite, `${suite.name}/${place || 0}`);
    else if (kind === "run") await drawRun(suite, place);
    else drawBoards(suite);
    if (page !== drawn) return;  // another page was asked for while the data came
    redraw();
  }
  const row = item && view.gallery ? view.gallery.items.findIndex((x) => x.id === item) : -1;
  if (row >= 0) drawItem(row);
  else if ($("item").open) $("item").close();
  document.documentElement.dataset.ready = location.hash || "#";
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.matches("input, select"), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if ($("item").open) {
    if (step) { event.preventDefault(); move(step); }
  } else if (event.key === "/" && !event.target.matches("input[type=search]")) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape" && event.target === $("filter")) {
    $("filter").value = "";
    redraw();
    $("main").focus();
  } else if (event.key.startsWith("Arrow") && !field && view.gallery && drawn.startsWith("gallery")) {
    const items = [...document.querySelectorAll(".grid button")], at = items.indexOf(document.activeElement);
    const line = items.filter((b) => b.offsetTop === items[0].offsetTop).length;
    const next = items[at < 0 ? 0 : at + (step || { ArrowUp: -line, ArrowDown: line }[event.key])];
    if (next) { event.preventDefault(); next.focus(); }
  }
}
addEventListener("DOMContentLoaded", () => {
  setTheme(document.documentElement.dataset.theme);
  $("theme").addEventListener("click", () => {
    const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    stored(name);
    setTheme(name);
  });
  $("filter").addEventListener("input", redraw);
  $("controls").addEventListener("change", redraw);
  $("item").addEventListener("close", () => {
    if (location.hash.split("/").length > 3) location.hash = `#gallery/${view.key}`;
    // the event comes a moment later: whoever has gone on to a field stays there
    if (!document.activeElement.matches("input, select")) document.querySelector(`.grid button[data-row="${view.shown[view.at]}"]`)?.focus();
  });
  addEventListener("keydown", keys);
  addEventListener("hashchange", route);
  route();
});
