// One photo at a time: chosen, sent, watched and shown. Text from the server is only ever set as
// text, and every picture is a blob of this page's own.

/** The service's own default limit; a larger photo is not worth the sending. */
const MAX_BYTES = 50 * 1024 * 1024;

/** How long the upload waits for the progress to be heard. It goes on without. */
const PATIENCE_MS = 1500;

/** Of the bar, what the upload fills; the service's own progress fills the rest. */
const UPLOAD_SHARE = 20;

/** What is asked for, in the order shown; the first is the plain cut-out. */
const EFFECTS = [
  { name: "color", label: "Cut-out", suffix: "cutout" },
  { name: "enhancedblackwhite", label: "Black and white", suffix: "enhancedblackwhite" },
  { name: "popart", label: "Pop art", suffix: "popart" },
  { name: "dithering", label: "Dithering", suffix: "dithering" },
  { name: "retro8bit", label: "8-bit", suffix: "retro8bit" },
];

const OTHER_PHOTO = "Choose another photo, best as JPEG or PNG.";
const LATER = "Try again in a moment.";

/** By status: what happened in a few words, what to do, and whether sending it again can help. */
const FAILURES = {
  0: ["The service cannot be reached", "Check the connection, then try again.", true],
  400: ["This photo cannot be used", OTHER_PHOTO, false],
  408: ["It took too long", "Try again, or choose a smaller photo.", true],
  413: ["This photo is too large", "Make it smaller, or choose another one.", false],
  415: ["This is not a photo that can be read", OTHER_PHOTO, false],
  422: ["No photo arrived", LATER, true],
  429: ["Too many photos at once", "Your photo is kept here and can be sent again.", true],
  503: ["The service is not ready", "Your photo is kept here and can be sent again.", true],
  504: ["It took too long", "Try again, or choose a smaller photo.", true],
};
const UNKNOWN_FAILURE = ["Something went wrong", LATER, true];

const $ = (id) => document.getElementById(id);

/** What goes wrong in a way that the reader is told about. */
class Failure extends Error {
  constructor(status, detail, { title, advice, retry, wait = 0 } = {}) {
    super(detail);
    const known = FAILURES[status] ?? UNKNOWN_FAILURE;
    this.title = title ?? known[0];
    this.advice = advice ?? known[1];
    this.retry = retry ?? known[2];
    /** Seconds until another try is welcome. */
    this.wait = wait;
  }
}

/** The photo in hand; whatever comes late for another one is dropped. */
let current = null;

function begin(file) {
  leave();
  current = { file, photo: URL.createObjectURL(file), results: [], request: null, waiting: 0 };
  work(current);
}

/** Gives up the photo in hand, with all that it holds. */
function leave() {
  if (!current) return;
  current.request?.abort();
  clearInterval(current.waiting);
  dropResults(current);
  URL.revokeObjectURL(current.photo);
  current = null;
}

function dropResults(job) {
  for (const result of job.results) URL.revokeObjectURL(result.url);
  job.results = [];
}

async function work(job) {
  try {
    dropResults(job);
    refuseUnfit(job.file);
    showWorking(job);
    const answer = await send(job);
    if (job !== current) return;
    await readResults(job, answer);
    if (job === current) showDone(job, answer);
  } catch (error) {
    if (job === current) showFailure(job, error);
  }
}

/** What can be told before anything is sent. A type that the browser does not know is left to the
    service to judge. */
function refuseUnfit(file) {
  if (file.type && !file.type.startsWith("image/")) {
    throw new Failure(415, `${file.name} is not an image (${file.type}).`);
  }
  if (file.size === 0) {
    throw new Failure(400, `${file.name} is empty.`);
  }
  if (file.size > MAX_BYTES) {
    const size = (file.size / 1024 / 1024).toFixed(1);
    throw new Failure(413, `${file.name} has ${size} MB; at most 50 MB are taken.`);
  }
}

// Sending

async function send(job) {
  const session = hex(crypto.getRandomValues(new Uint8Array(16)));
  const progress = listen(session, (event) => {
    if (job === current) advance(UPLOAD_SHARE + event.progress * (1 - UPLOAD_SHARE / 100), event.message);
  });
  try {
    await progress.open;
    if (job !== current) return null;
    const url = here("api/v2/process-with-effects");
    url.search = new URLSearchParams({
      return_all_effects: "true",
      effects: EFFECTS.map((effect) => effect.name).join(","),
      session_id: session,
    });
    const request = await post(url, job, (share) => {
      if (job !== current) return;
      if (share < 1) advance(share * UPLOAD_SHARE, "Sending the photo");
      else if (progress.heard()) advance(UPLOAD_SHARE, "Working on the photo");
      else advance(null, "Working on the photo");
    });
    return accept(request);
  } finally {
    progress.close();
  }
}

/** The service's progress on a session, as long as it can be heard: it is welcome, not needed. */
function listen(session, told) {
  const url = here(`ws/enhanced-progress/${session}`);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  const open = new Promise((resolve) => {
    setTimeout(resolve, PATIENCE_MS);
    for (const type of ["open", "error", "close"]) socket.addEventListener(type, resolve);
  });
  socket.addEventListener("message", ({ data }) => {
    const event = parsed(data);
    if (Number.isFinite(event?.progress)) told(event);
  });
  return {
    open,
    heard: () => socket.readyState === WebSocket.OPEN,
    close: () => socket.close(),
  };
}

/** By XMLHttpRequest, because fetch does not tell how much has been sent. */
function post(url, job, sent) {
  const form = new FormData();
  form.append("file", job.file, job.file.name || "photo");
  const request = new XMLHttpRequest();
  job.request = request;
  return new Promise((resolve, reject) => {
    request.open("POST", url);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) sent(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => sent(1));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => {
      reject(new Failure(0, "The connection broke before an answer came."));
    });
    request.addEventListener("abort", () => reject(new Failure(0, "It was given up.")));
    request.send(form);
  });
}

/** The answer's body, or what it says went wrong. */
function accept(request) {
  const { status, response } = request;
  if (status !== 200) {
    const detail = typeof response?.detail === "string" ? response.detail : `It answered ${status}.`;
    throw new Failure(status, detail, { wait: secondsUntil(request.getResponseHeader("Retry-After")) });
  }
  if (typeof response?.effects !== "object" || response.effects === null) {
    throw new Failure(500, "The answer holds no pictures.");
  }
  return response;
}

/** Retry-After: seconds, or a date. */
function secondsUntil(value) {
  if (!value) return 0;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : 0;
}

async function readResults(job, answer) {
  const stem = job.file.name.replace(/\.[^.]*$/, "") || "photo";
  for (const effect of EFFECTS) {
    const text = answer.effects[effect.name];
    if (typeof text !== "string") continue;
    const url = URL.createObjectURL(new Blob([bytesOf(text)], { type: "image/png" }));
    job.results.push({ ...effect, url, file: `${stem}.${effect.suffix}.png` });
  }
  if (job.results.length === 0) throw new Failure(500, "The answer holds no pictures.");
  const { width, height } = await sizeOf(job.results[0].url);
  // Absent where the browser cannot show the photo, which may still be one that the service reads.
  const photo = await sizeOf(job.photo).catch(() => null);
  Object.assign(job, { width, height, comparison: comparison(photo, { width, height }) });
}

/** Why photo and result cannot be laid over each other; empty when they can. */
function comparison(photo, result) {
  if (!photo) return "This browser cannot show the photo itself, so there is nothing to compare with.";
  const same = Math.abs(photo.width / photo.height / (result.width / result.height) - 1) < 0.02;
  return same ? "" : "This browser shows the photo in another shape, so the two are not compared.";
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** A picture's size as shown, turned by its EXIF orientation. */
async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return { width: image.naturalWidth, height: image.naturalHeight };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** An address beside this page, wherever that is mounted. */
function here(path) {
  return new URL(path, document.baseURI);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Showing

const STATES = ["choose", "working", "failed", "done"];

function show(state, title) {
  for (const id of STATES) $(id).hidden = id !== state;
  document.title = title ? `${title} – cutout` : "cutout";
}

/** Tells those who do not see the page; what did not change is not said again. */
function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function showChoice() {
  leave();
  show("choose");
  say("");
  $("pick").focus();
}

function showWorking(job) {
  $("working-name").textContent = job.file.name;
  $("preview").hidden = true;
  $("preview").src = job.photo;
  $("bar").removeAttribute("value");
  show("working", "Cutting out");
  advance(0, "Sending the photo");
  $("working-title").focus();
}

/** Moves the bar, never back; null: nobody knows how far it is. */
function advance(percent, message) {
  const bar = $("bar");
  if (percent === null) {
    bar.removeAttribute("value");
    $("percent").textContent = "";
  } else {
    bar.value = Math.min(100, Math.max(percent, bar.hasAttribute("value") ? bar.value : 0));
    $("percent").textContent = `${Math.round(bar.value)} %`;
  }
  if (typeof message === "string" && message) {
    $("step").textContent = message;
    say(message);
  }
}

function showFailure(job, error) {
  const failure = error instanceof Failure ? error : new Failure(500, String(error));
  $("failed-title").textContent = failure.title;
  $("failed-name").textContent = job.file.name;
  $("failed-detail").textContent = failure.message;
  $("failed-advice").textContent = failure.advice;
  $("retry").hidden = !failure.retry;
  $("other").classList.toggle("primary", !failure.retry);
  holdRetry(job, failure.retry ? failure.wait : 0);
  show("failed", failure.title);
  say("");
  $("failed-title").focus();
}

/** Counts down to the moment from which another try is welcome. */
function holdRetry(job, seconds) {
  const until = Date.now() + seconds * 1000;
  const retry = $("retry");
  const wait = $("failed-wait");
  wait.hidden = seconds === 0;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    retry.disabled = left > 0;
    const at = new Date(until).toLocaleTimeString();
    wait.textContent = left > 0 ? `You can try again in ${left} s, at ${at}.` : "You can try again now.";
    if (left > 0) return;
    clearInterval(job.waiting);
    if (seconds > 0) say(wait.textContent);
  };
  job.waiting = setInterval(tick, 250);
  tick();
}

function showDone(job, answer) {
  const made = new Set(job.results.map((result) => result.name));
  const missing = EFFECTS.filter((effect) => !made.has(effect.name)).map((effect) => effect.label);
  $("missing").hidden = missing.length === 0;
  $("missing").textContent = `Could not be made: ${missing.join(", ")}.`;
  $("no-compare").hidden = !job.comparison;
  $("no-compare").textContent = job.comparison;
  for (const id of ["before", "before-tag", "split", "handle"]) $(id).hidden = job.comparison !== "";
  if (job.comparison) $("before").removeAttribute("src");
  else $("before").src = job.photo;
  $("compare").style.setProperty("--ratio", String(job.width / job.height));
  const seconds = answer.processing_time?.total;
  const took = Number.isFinite(seconds) ? `, made in ${seconds.toFixed(1)} s` : "";
  $("facts").textContent = `${job.width} × ${job.height} pixels${took}`;
  $("tiles").replaceChildren(...job.results.map((result) => tile(job, result)));
  $("split").value = 50;
  select(job, job.results[0]);
  show("done", "Done");
  say(`Done: ${job.results.length} pictures.`);
  $("done-title").focus();
}

function tile(job, result) {
  const item = $("tile").content.cloneNode(true);
  const button = item.querySelector("button");
  button.dataset.effect = result.name;
  button.addEventListener("click", () => {
    select(job, result);
    $("done-title").scrollIntoView({ block: "nearest" });
  });
  item.querySelector("img").src = result.url;
  item.querySelector(".label").textContent = result.label;
  const link = item.querySelector("a");
  link.setAttribute("aria-label", `Download ${result.label}`);
  link.href = result.url;
  link.download = result.file;
  return item;
}

/** Shows one result large. */
function select(job, result) {
  $("done-title").textContent = result.label;
  $("after").src = result.url;
  $("after").alt = `${result.label} of ${job.file.name}`;
  $("after-tag").textContent = result.label;
  $("save").href = result.url;
  $("save").download = result.file;
  for (const button of $("tiles").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.effect === result.name));
  }
  divide();
}

/** Puts the line where the slider is. */
function divide() {
  const percent = Number($("split").value);
  $("compare").style.setProperty("--split", `${percent}%`);
  const label = $("done-title").textContent;
  $("split").setAttribute("aria-valuetext", `${percent} % photo, ${100 - percent} % ${label}`);
}

// Listening

const pick = () => $("file").click();
for (const id of ["pick", "other", "again"]) $(id).addEventListener("click", pick);
$("cancel").addEventListener("click", showChoice);
$("retry").addEventListener("click", () => {
  clearInterval(current.waiting);
  work(current);
});
$("split").addEventListener("input", divide);
$("preview").addEventListener("load", ({ target }) => {
  target.style.setProperty("--ratio", String(target.naturalWidth / target.naturalHeight));
  target.hidden = false;
});
$("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same photo can be chosen again
  if (file) begin(file);
});
document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) begin(file);
});

const carriesFile = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
const held = (over) => document.documentElement.classList.toggle("over", over);
addEventListener("dragover", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault(); // or the browser opens the photo in place of this page
  event.dataTransfer.dropEffect = "copy";
  held(true);
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) held(false);
});
addEventListener("drop", (event) => {
  held(false);
  if (!carriesFile(event)) return;
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) begin(file);
});

$("origin").textContent = here("").href;
