// The report of a comparison. All text is set as text; pictures are decoded while they are in view, and no longer.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { photos, statistics } = data;

const number = (value, decimals) => value.toLocaleString("en", {
  minimumFractionDigits: decimals,
  maximumFractionDigits: decimals,
});
const count = (value) => value.toLocaleString("en");
const percent = (value) => `${number(value * 100, 2)} %`;
/** With its sign, but for what is shown as nothing. */
function signed(value, show) {
  const size = show(Math.abs(value));
  return /[1-9]/.test(size) ? `${value > 0 ? "+" : "−"}${size}` : size;
}
const share = (value) => number(value, 4);
const milliseconds = (value) => `${number(value, value < 10 ? 2 : value < 1000 ? 1 : 0)} ms`;
const megabytes = (value) => (value == null ? "not told" : `${number(value / 1e6, 0)} MB`);
const times = (value) => `×${number(value, 3)}`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text != null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Tables

/** An estimate with its interval, as a cell. */
function cell(estimate, show) {
  const made = element("td", estimate ? show(estimate.value) : "–");
  if (estimate?.interval) {
    const [low, high] = estimate.interval;
    made.append(element("span", `(${show(low)} to ${show(high)})`, "interval"));
  }
  return made;
}

function letter(which) {
  return element("span", which.toUpperCase(), `arm ${which}`);
}

/** A table in a box that scrolls by itself where it is too wide. Heads are text or elements. */
function table(place, label, heads, rows, className) {
  const made = element("table", null, className);
  const top = made.createTHead().insertRow();
  for (const head of heads) {
    const th = element("th");
    th.scope = "col";
    th.append(...[head].flat());
    top.append(th);
  }
  const body = made.createTBody();
  for (const [title, ...cells] of rows) {
    const row = body.insertRow();
    const th = element("th", title);
    th.scope = "row";
    row.append(th, ...cells.map((one) => (typeof one === "string" ? element("td", one) : one)));
  }
  const box = element("div", null, "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `${label}: table`);
  box.append(made);
  place.replaceChildren(box);
}

const AGREEMENT = {
  difference: ["Mean difference", percent],
  changed: ["Pixels on the other side", percent],
  iou: ["IoU", share],
  boundary_iou: ["Boundary IoU", share],
};
const SHARES = { coverage: "Subject", uncertain: "Uncertain" };
const TIMES = { infer_ms: "The network alone", total_ms: "From file to matte" };

function showStatistics() {
  $("name-a").textContent = data.names[0];
  $("name-b").textContent = data.names[1];
  document.title = `${data.names[0]} and ${data.names[1]} – cutout compare`;
  const begun = new Date(data.begun).toLocaleDateString("en", { dateStyle: "long" });
  const failed = data.failures.length > 0 ? `, ${count(data.failures.length)} failed` : "";
  const facts = [`${count(photos.length)} photos${failed}`, `begun ${begun}`, `cutout ${data.settings.version}`];
  for (const which of ["a", "b"]) {
    const network = data.settings[which].network;
    if (!network) continue;
    const { provider, precision, threads, sha256 } = network;
    facts.push(`${which.toUpperCase()}: ${provider}, ${precision}, ${threads} threads, ${sha256.slice(0, 12)}`);
  }
  $("about").textContent = facts.join(" · ");

  const spread = ({ key, spread: { mean, median, p95 } }) => {
    const [title, show] = AGREEMENT[key];
    return [title, cell(mean, show), cell(median, show), cell(p95, show)];
  };
  const apart = statistics.agreement.map(spread);
  for (const { key, less } of statistics.shares) {
    if (!less) continue;
    const show = (value) => signed(value, percent);
    apart.push([`${SHARES[key]}, B less A`, cell(less.mean, show), cell(less.median, show), "–"]);
  }
  table($("apart"), "How far apart they are", ["Figure", "Mean", "Median", "95 % are better than"], apart);
  drawHistogram();

  if (statistics.times.length > 0) {
    const rows = [];
    for (const { key, a, b, less, ratio } of statistics.times) {
      const both = (of, which) => cell(of && of[which], milliseconds);
      const apartBy = (which) => cell(less && less[which], (value) => signed(value, milliseconds));
      rows.push([`${TIMES[key]}, mean`, both(a, "mean"), both(b, "mean"), apartBy("mean"), cell(ratio, times)]);
      rows.push([`${TIMES[key]}, median`, both(a, "median"), both(b, "median"), apartBy("median"), "–"]);
      rows.push([`${TIMES[key]}, 95 % are below`, both(a, "p95"), both(b, "p95"), "–", "–"]);
    }
    const start = (title, of) => [title, ...data.starts.map((one) => (one ? of(one) : "–")), "–", "–"];
    rows.push(start("Loading and warming up", ({ load_ms, warm_up_ms }) => milliseconds(load_ms + warm_up_ms)));
    rows.push(start("Memory once loaded", ({ resident }) => megabytes(resident)));
    const peaks = statistics.peak.map((peak, which) => (data.starts[which] ? megabytes(peak) : "–"));
    rows.push(["Memory at most", ...peaks, "–", "–"]);
    table($("speed"), "Speed and memory", ["Figure", letter("a"), letter("b"), "B less A", "B by A"], rows);
    $("speed-section").hidden = false;
  }

  if (statistics.measures.length > 0) {
    const rows = statistics.measures.map((one) => [
      `${one.title} ${one.higher_is_better ? "↑" : "↓"}`,
      cell(one.a, share),
      cell(one.b, share),
      cell(one.less, (value) => signed(value, share)),
      count(one.a_wins),
      count(one.b_wins),
    ]);
    const heads = ["Measure", letter("a"), letter("b"), "B less A", "A is better on", "B is better on"];
    table($("truth"), "Next to the true masks", heads, rows);
    $("truth-section").hidden = false;
  }

  if (data.failures.length > 0) {
    const rows = data.failures.map(({ name, code, message }) => [name, code, message]);
    table($("failures"), "Could not be compared", ["Photo", "Code", "Why"], rows, "words-table");
    $("failures-section").hidden = false;
  }
}

/** Upper ends of the bars, percent: differences are spread over powers of ten. */
const ENDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];

function drawHistogram() {
  const bars = ENDS.map(() => 0);
  for (const { difference } of photos) {
    bars[ENDS.findIndex((end) => difference * 100 <= end)] += 1;
  }
  const chart = $("histogram");
  const [width, height, foot, head] = [440, 180, 22, 18];
  const step = width / ENDS.length;
  const most = Math.max(1, ...bars);
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const told = bars.map((bar, at) => `${bar} to ${ENDS[at]} %`).join(", ");
  chart.setAttribute("aria-label", `Photos by mean difference: ${told}`);
  const draw = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text != null) made.textContent = text;
    chart.append(made);
  };
  bars.forEach((bar, at) => {
    const high = (bar / most) * (height - foot - head);
    const y = height - foot - high;
    draw("rect", { x: at * step + 3, y, width: step - 6, height: high, rx: 2 });
    if (bar > 0) draw("text", { x: (at + 0.5) * step, y: y - 4, class: "number" }, count(bar));
    draw("text", { x: (at + 0.5) * step, y: height - 6 }, `≤${ENDS[at]}`);
  });
  draw("line", { x1: 0, x2: width, y1: height - foot, y2: height - foot });
}

// Pictures

/** The colours of the difference; .more in the style has the same. */
const MORE = { a: [0, 84, 204], b: [224, 96, 0] };

const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

async function decoded(type, base64) {
  const image = new Image();
  image.src = `data:image/${type};base64,${base64}`;
  await image.decode();
  return image;
}

function pixels(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  scratch.canvas.width = width;
  scratch.canvas.height = height;
  scratch.drawImage(image, 0, 0);
  return scratch.getImageData(0, 0, width, height);
}

/** Photo, both cut-outs and the difference, as pixels. */
async function layers(index) {
  const [photo64, a64, b64] = JSON.parse($(`pictures-${index}`).textContent);
  const images = await Promise.all([decoded("jpeg", photo64), decoded("png", a64), decoded("png", b64)]);
  const [photo, a, b] = images.map(pixels);
  const same = () => new ImageData(new Uint8ClampedArray(photo.data), photo.width, photo.height);
  const [cutA, cutB, difference] = [same(), same(), same()];
  for (let at = 0; at < photo.data.length; at += 4) {
    const [ours, theirs] = [a.data[at], b.data[at]];
    cutA.data[at + 3] = ours;
    cutB.data[at + 3] = theirs;
    // The photo, pale and grey; small differences are made visible by the root.
    const [red, green, blue] = photo.data.subarray(at, at + 3);
    const pale = 255 - (255 - (0.3 * red + 0.59 * green + 0.11 * blue)) * 0.4;
    const strength = Math.sqrt(Math.abs(ours - theirs) / 255);
    const colour = ours > theirs ? MORE.a : MORE.b;
    for (let channel = 0; channel < 3; channel += 1) {
      difference.data[at + channel] = pale + (colour[channel] - pale) * strength;
    }
  }
  return { photo, a: cutA, b: cutB, difference };
}

function paint(canvas, layer) {
  canvas.width = layer.width;
  canvas.height = layer.height;
  canvas.getContext("2d").putImageData(layer, 0, 0);
}

/** Gives the pixels back. */
function clear(canvas) {
  canvas.width = 0;
  canvas.height = 0;
}

// The list

const LAYERS = ["photo", "a", "b", "difference"];
const rows = new Map();
const inView = new Set();

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) show(target);
    else hide(target);
  }
}, { rootMargin: "300px 0px" });

async function show(row) {
  inView.add(row);
  const painted = await layers(Number(row.dataset.index));
  // It may have left while its pictures were decoded.
  if (!inView.has(row)) return;
  row.querySelectorAll("canvas").forEach((canvas, at) => paint(canvas, painted[LAYERS[at]]));
  row.dataset.painted = "";
}

function hide(row) {
  inView.delete(row);
  row.querySelectorAll("canvas").forEach(clear);
  delete row.dataset.painted;
}

function makeRow(photo, index) {
  const row = $("row").content.firstElementChild.cloneNode(true);
  row.dataset.index = index;
  const open = row.querySelector(".open");
  open.textContent = photo.name;
  open.addEventListener("click", () => view(index));
  row.querySelector(".tiles").addEventListener("click", () => view(index));
  const figures = row.querySelector(".figures");
  const figure = (title, value, className) => {
    const pair = element("div");
    pair.append(element("dt", title, className), element("dd", value, className));
    figures.append(pair);
  };
  const [a, b] = photo.arms;
  figure("Difference", percent(photo.difference), "main");
  figure("Other side", percent(photo.changed));
  figure("IoU", share(photo.iou));
  figure("Subject, B less A", signed(b.coverage - a.coverage, percent));
  if (a.total_ms != null) figure("Time A", milliseconds(a.total_ms));
  if (b.total_ms != null) figure("Time B", milliseconds(b.total_ms));
  watcher.observe(row);
  rows.set(index, row);
}

const byName = new Intl.Collator("en", { numeric: true }).compare;

/** What the list can be sorted by: the largest comes first, but for names. */
function orders() {
  const found = [
    ["difference", "Difference", (photo) => photo.difference],
    ["changed", "Pixels on the other side", (photo) => photo.changed],
    ["iou", "Lowest IoU", (photo) => -photo.iou],
    ["boundary_iou", "Lowest boundary IoU", (photo) => -photo.boundary_iou],
    ["coverage", "Difference of the subject’s size", ({ arms: [a, b] }) => Math.abs(b.coverage - a.coverage)],
    ["uncertain", "Most uncertain of either", ({ arms: [a, b] }) => Math.max(a.uncertain, b.uncertain)],
  ];
  const timed = [0, 1].filter((arm) => photos.some((photo) => photo.arms[arm].total_ms != null));
  for (const arm of timed) {
    found.push([`time-${"ab"[arm]}`, `Time of ${"AB"[arm]}`, (photo) => photo.arms[arm].total_ms]);
  }
  if (timed.length === 2) {
    found.push(["slower", "Time, B less A", ({ arms: [a, b] }) => b.total_ms - a.total_ms]);
  }
  for (const { key, title, higher_is_better: up } of statistics.measures) {
    const ahead = ({ arms: [a, b] }) => (a.measures[key] - b.measures[key]) * (up ? 1 : -1);
    found.push([`a-${key}`, `A better by ${title}`, ahead]);
  }
  found.push(["name", "Name", null]);
  return found;
}

const ORDERS = orders();
let shown = [];

function arrange() {
  const [, , value] = ORDERS.find(([key]) => key === $("sort").value);
  const wanted = $("name").value.toLocaleLowerCase();
  const least = (Number($("least").value) || 0) / 100;
  shown = photos.map((_, index) => index).filter((index) => {
    const { name, difference } = photos[index];
    return difference >= least && name.toLocaleLowerCase().includes(wanted);
  });
  const names = (one, other) => byName(photos[one].name, photos[other].name);
  const compare = value
    ? (one, other) => value(photos[other]) - value(photos[one]) || names(one, other)
    : names;
  shown.sort(compare);
  if ($("reverse").checked) shown.reverse();
  $("list").replaceChildren(...shown.map((index) => rows.get(index)));
  $("count").textContent = `${count(shown.length)} of ${count(photos.length)} photos`;
}

function startList() {
  for (const [key, title] of ORDERS) {
    const option = element("option", title);
    option.value = key;
    $("sort").append(option);
  }
  photos.forEach(makeRow);
  for (const id of ["sort", "reverse", "name", "least"]) $(id).addEventListener("input", arrange);
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  arrange();
}

// One photo, large

const WHAT = { a: `A: ${data.names[0]}`, b: `B: ${data.names[1]}`, difference: "Difference", photo: "Photo" };
let current = null;

function view(index) {
  current = index;
  if (!$("viewer").open) $("viewer").showModal();
  const { name } = photos[index];
  $("viewer-title").textContent = name;
  const at = shown.indexOf(index);
  $("previous").disabled = at <= 0;
  $("next").disabled = at < 0 || at === shown.length - 1;
  showFacts(photos[index]);
  showSides();
}

async function showSides() {
  const index = current;
  const painted = await layers(index);
  if (index !== current) return;
  $("compare").style.setProperty("--ratio", painted.photo.width / painted.photo.height);
  for (const side of ["left", "right"]) {
    const what = $(`${side}-what`).value;
    paint($(side), painted[what]);
    $(side).setAttribute("aria-label", `${WHAT[what]}, of ${photos[index].name}`);
  }
}

function showFacts(photo) {
  const [a, b] = photo.arms;
  const size = `${count(photo.width)} × ${count(photo.height)} pixels`;
  const list = [
    `difference ${percent(photo.difference)} (A more ${percent(photo.a_more)}, B more ${percent(photo.b_more)})`,
    `on the other side ${percent(photo.changed)}`,
    `IoU ${share(photo.iou)}`,
    `boundary IoU ${share(photo.boundary_iou)}`,
  ];
  const rows = [
    ["Subject", percent(a.coverage), percent(b.coverage), signed(b.coverage - a.coverage, percent)],
    ["Uncertain", percent(a.uncertain), percent(b.uncertain), signed(b.uncertain - a.uncertain, percent)],
  ];
  for (const [key, title] of Object.entries(TIMES)) {
    if (a[key] == null && b[key] == null) continue;
    const of = (arm) => (arm[key] == null ? "–" : milliseconds(arm[key]));
    const less = a[key] == null || b[key] == null ? "–" : signed(b[key] - a[key], milliseconds);
    rows.push([title, of(a), of(b), less]);
  }
  for (const { key, title } of statistics.measures) {
    const [ours, theirs] = [a.measures[key], b.measures[key]];
    rows.push([title, share(ours), share(theirs), signed(theirs - ours, share)]);
  }
  table($("facts"), "Figures of this photo", ["Figure", letter("a"), letter("b"), "B less A"], rows);
  $("facts").prepend(element("p", `${size}: ${list.join(", ")}.`, "quiet"));
}

function move(by) {
  const next = shown[shown.indexOf(current) + by];
  if (next != null) view(next);
}

function slide() {
  const value = Number($("split").value);
  $("compare").style.setProperty("--split", `${value}%`);
  const [left, right] = ["left", "right"].map((side) => WHAT[$(`${side}-what`).value]);
  $("split").setAttribute("aria-valuetext", `${value} % ${left}, ${100 - value} % ${right}`);
}

function startViewer() {
  for (const [side, chosen] of [["left", "a"], ["right", "b"]]) {
    for (const [key, title] of Object.entries(WHAT)) {
      const option = element("option", title);
      option.value = key;
      option.selected = key === chosen;
      $(`${side}-what`).append(option);
    }
    $(`${side}-what`).addEventListener("input", () => {
      slide();
      showSides();
    });
  }
  $("split").addEventListener("input", slide);
  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("close").addEventListener("click", () => $("viewer").close());
  $("viewer").addEventListener("keydown", (event) => {
    const by = { PageUp: -1, PageDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    move(by);
  });
  $("viewer").addEventListener("close", () => {
    for (const side of ["left", "right"]) clear($(side));
    const row = rows.get(current);
    current = null;
    if (row?.isConnected) row.querySelector(".open").focus();
  });
  slide();
}

showStatistics();
startViewer();
startList();
