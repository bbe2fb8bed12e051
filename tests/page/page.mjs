// Walks through the page as people do, in a real browser:
//
//     node tests/page/page.mjs http://127.0.0.1:8080/ FOLDER_FOR_SCREENSHOTS [NAME…]
//
// Every walk opens a tab of its own. The service is the real one; only what it cannot be made to
// say at will (a refusal for now, markup in a message) is put in its mouth by the browser.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { Tab, launch } from "./browser.mjs";
import { sideways } from "./exif.mjs";

const [base, shots, ...wanted] = process.argv.slice(2);
const root = path.resolve(import.meta.dirname, "../..");
const CAT = path.join(root, "samples/cat.jpg");
const TEXT_NAMED_JPG = path.join(root, "tests/fixtures/images/text.jpg");
const scratch = mkdtempSync(path.join(os.tmpdir(), "cutout-page-"));

const LOOKS = [
  { look: "desktop-light", width: 1200, scheme: "light" },
  { look: "desktop-dark", width: 1200, scheme: "dark" },
  { look: "phone-light", width: 360, scheme: "light" },
  { look: "phone-dark", width: 360, scheme: "dark" },
];

/** A request that failed on purpose is told in the console by the browser itself. */
const FAILED_ON_PURPOSE = /Failed to load resource: .* (400|413|415|422|429|503)/;

/** A state from everybody's side: axe finds no barrier, nothing sticks out, and there is a picture. */
async function inspect(tab, state) {
  const { page } = tab;
  const before = page.viewport();
  for (const { look, width, scheme } of LOOKS) {
    await page.setViewport({ width, height: width < 600 ? 740 : 850 });
    await tab.media({ scheme, motion: "reduce" });
    const inside = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(inside <= width, `${state}: ${inside} pixels wide on a window of ${width}`);
    assert.equal(await tab.moving(), 0, `${state}: something moves for who asked for no motion`);
    assert.deepEqual(await tab.barriers(), [], `${state}, ${look}`);
    await tab.shot(shots, `${state}-${look}`);
  }
  await page.setViewport(before);
  await tab.media({});
}

/** Holds the uploads until `release` is called; answers some of them itself. */
async function hold(tab, answer = () => null) {
  let release;
  const released = new Promise((resolve) => {
    release = resolve;
  });
  let uploads = 0;
  await tab.page.setRequestInterception(true);
  tab.page.on("request", async (request) => {
    if (request.method() !== "POST") return request.continue();
    uploads += 1;
    const ours = answer(uploads);
    if (ours) return request.respond(ours);
    await released;
    return request.continue();
  });
  return release;
}

/** Follows a link and returns the name and the bytes of what it saved. */
async function download(tab, link) {
  const folder = mkdtempSync(path.join(scratch, "download-"));
  const session = await tab.page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", {
    behavior: "allow",
    browserContextId: tab.context.id,
    downloadPath: folder,
    eventsEnabled: true,
  });
  const saved = new Promise((resolve, reject) => {
    session.on("Browser.downloadProgress", ({ state }) => {
      if (state === "completed") resolve();
      if (state === "canceled") reject(new Error("a download was cancelled"));
    });
  });
  await link.press("Enter");
  await saved;
  await session.detach();
  const [name, ...others] = readdirSync(folder);
  assert.deepEqual(others, []);
  return { name, bytes: readFileSync(path.join(folder, name)) };
}

/** The comparison's picture with its line at a place, as PNG in base64. */
async function shownAt(tab, percent) {
  await tab.page.$eval("#split", (slider, value) => {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  }, percent);
  return (await tab.page.$("#compare")).screenshot({ encoding: "base64" });
}

function sizeOfPng(bytes) {
  assert.equal(bytes.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), colour: bytes[25] };
}

const walks = {
  async "the page comes with its policy and waits for a photo"(browser) {
    const tab = await Tab.open(browser, base);
    const headers = tab.answer.headers();
    assert.match(headers["content-type"], /^text\/html/);
    assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self';/);
    assert.equal(headers["x-content-type-options"], "nosniff");
    await tab.reaches("choose");
    await inspect(tab, "1-empty");
    await tab.close();
  },

  async "a photo is cut out with the keyboard alone"(browser) {
    const tab = await Tab.open(browser, base);
    const { page } = tab;
    const release = await hold(tab);
    await tab.tabTo("#pick");
    const ring = await page.$eval("#pick", (button) => getComputedStyle(button).outlineStyle);
    assert.equal(ring, "solid", "the focus is visible");
    await tab.chooseBy(() => page.keyboard.press("Enter"), CAT);

    await tab.reaches("working");
    assert.equal(await tab.focus(), "working-title");
    assert.equal(await tab.text("#working-name"), "cat.jpg");
    await tab.until("the photo", () => document.getElementById("preview").naturalWidth > 0);
    await inspect(tab, "2-working");
    release();

    await tab.reaches("done");
    assert.equal(await tab.focus(), "done-title");
    const upload = tab.events.findIndex((event) => event.startsWith("POST /api/v2/"));
    const listening = tab.events.indexOf("WS open");
    assert.ok(listening >= 0 && listening < upload, tab.events.join("\n"));
    await tab.hears("WS closed");

    const told = tab.progress.filter((event) => event.message && event.progress > 0);
    assert.ok(told.length > 0, "the service told no progress");
    const shown = await page.evaluate(() => globalThis.shown);
    const steps = new Set(shown.map((entry) => entry.step));
    const said = new Set(shown.map((entry) => entry.said));
    assert.ok(told.some((event) => steps.has(event.message)), "no progress was shown");
    assert.ok(told.some((event) => said.has(event.message)), "no progress was told aloud");
    const values = shown.map((entry) => entry.value).filter((value) => value !== null);
    assert.deepEqual(values, values.toSorted((a, b) => a - b), "the bar went back");
    assert.equal(await tab.text("#status"), "Done: 5 pictures.");

    await tab.tabTo("#split");
    const line = () => page.$eval("#before", (image) => getComputedStyle(image).clipPath);
    const middle = await line();
    for (let step = 0; step < 20; step += 1) await page.keyboard.press("ArrowRight");
    assert.notEqual(await line(), middle);
    const spoken = await page.$eval("#split", (slider) => slider.getAttribute("aria-valuetext"));
    assert.equal(spoken, "70 % photo, 30 % Cut-out");

    await tab.tabTo("#tiles button[data-effect=popart]");
    await page.keyboard.press("Enter");
    assert.equal(await tab.text("#done-title"), "Pop art");
    const large = await page.$eval("#after", (image) => image.src);
    const small = await page.$eval("[data-effect=popart] img", (image) => image.src);
    assert.equal(large, small);
    const pressed = await page.$$eval("#tiles [aria-pressed=true]", (tiles) => tiles.length);
    assert.equal(pressed, 1);
    await tab.close();
  },

  async "results are compared with a mouse and downloaded"(browser) {
    const tab = await Tab.open(browser, base);
    const { page } = tab;
    await tab.choose(CAT);
    await tab.reaches("done");
    await inspect(tab, "3-done");

    const box = await (await page.$("#compare")).boundingBox();
    const y = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width / 2, y);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.25, y, { steps: 5 });
    await page.mouse.up();
    const value = Number(await page.$eval("#split", (slider) => slider.value));
    assert.ok(Math.abs(value - 25) <= 2, `the line is at ${value} %, the mouse at 25 %`);

    const names = ["cutout", "enhancedblackwhite", "popart", "dithering", "retro8bit"];
    const links = await page.$$("#tiles a");
    assert.equal(links.length, names.length);
    const size = /^(\d+) × (\d+) pixels/.exec(await tab.text("#facts"));
    const different = new Set();
    for (const [index, link] of links.entries()) {
      const { name, bytes } = await download(tab, link);
      assert.equal(name, `cat.${names[index]}.png`);
      const { width, height, colour } = sizeOfPng(bytes);
      assert.deepEqual([width, height], [Number(size[1]), Number(size[2])], name);
      if (index === 0) assert.equal(colour, 6, "the cut-out has an alpha channel");
      different.add(bytes.toString("base64"));
    }
    assert.equal(different.size, names.length, "every effect is a picture of its own");

    await page.click("[data-effect=retro8bit]");
    assert.equal(await tab.text("#done-title"), "8-bit");
    await inspect(tab, "3-done-effect");
    const save = await download(tab, await page.$("#save"));
    assert.equal(save.name, "cat.retro8bit.png");
    await tab.close();
  },

  async "a photo taken sideways lies under its cut-out"(browser) {
    const tab = await Tab.open(browser, base);
    const photo = path.join(scratch, "sideways.jpg");
    writeFileSync(photo, await sideways(tab.page, readFileSync(CAT)));
    await tab.choose(photo);
    await tab.reaches("done");
    // What is on the screen with the line at either end: the photo, and its cut-out.
    const [photoAlone, resultAlone] = [await shownAt(tab, 100), await shownAt(tab, 0)];
    const seen = await tab.page.evaluate(async (photoAlone, resultAlone) => {
      const pixels = async (source, width, height) => {
        const image = new Image();
        image.src = source;
        await image.decode();
        const size = [width ?? image.naturalWidth, height ?? image.naturalHeight];
        const canvas = new OffscreenCanvas(...size).getContext("2d");
        canvas.drawImage(image, 0, 0, ...size);
        return canvas.getImageData(0, 0, ...size);
      };
      const photo = await pixels(`data:image/png;base64,${photoAlone}`);
      const result = await pixels(`data:image/png;base64,${resultAlone}`);
      const subject = await pixels(document.getElementById("after").src, result.width, result.height);
      let difference = 0;
      let count = 0;
      for (let at = 0; at < subject.data.length; at += 4) {
        if (subject.data[at + 3] < 250) continue;
        count += 1;
        for (let c = 0; c < 3; c += 1) difference += Math.abs(photo.data[at + c] - result.data[at + c]);
      }
      return {
        upright: result.width > result.height,
        subject: count / (subject.data.length / 4),
        difference: difference / count / 3,
      };
    }, photoAlone, resultAlone);
    assert.ok(seen.upright);
    assert.ok(seen.subject > 0.02, `there is a subject: ${seen.subject}`);
    assert.ok(seen.difference < 8, `the same pixels lie over each other: ${seen.difference}`);
    await tab.shot(shots, "3-done-sideways");
    await tab.close();
  },

  async "a photo that the browser cannot show is cut out all the same"(browser) {
    const tab = await Tab.open(browser, base);
    await tab.choose(path.join(root, "tests/fixtures/images/rgb.tiff"));
    await tab.reaches("done");
    assert.match(await tab.text("#no-compare"), /cannot show the photo/);
    assert.ok(await tab.page.$eval("#split", (slider) => slider.hidden));
    const links = await tab.page.$$("#tiles a");
    assert.equal(links.length, 5);
    const { name, bytes } = await download(tab, links[0]);
    assert.equal(name, "rgb.cutout.png");
    sizeOfPng(bytes);
    await inspect(tab, "3-done-alone");
    await tab.close();
  },

  async "what is no photo is told in the service's own words"(browser) {
    const tab = await Tab.open(browser, base);
    const answered = tab.page.waitForResponse((answer) => answer.request().method() === "POST");
    await tab.choose(TEXT_NAMED_JPG);
    const answer = await answered;
    assert.ok(answer.status() >= 400 && answer.status() < 500, String(answer.status()));
    await tab.reaches("failed");
    assert.equal(await tab.focus(), "failed-title");
    assert.equal(await tab.text("#failed-detail"), (await answer.json()).detail);
    const retry = await tab.page.$eval("#retry", (button) => button.hidden);
    assert.ok(retry, "sending it again cannot help");
    await inspect(tab, "4-failed");
    await tab.choose(CAT);
    await tab.reaches("done");
    await tab.close(FAILED_ON_PURPOSE);
  },

  async "what is too large or no image is not even sent"(browser) {
    const tab = await Tab.open(browser, base);
    const large = path.join(scratch, "large.jpg");
    writeFileSync(large, "");
    truncateSync(large, 50 * 1024 * 1024 + 1);
    const note = path.join(scratch, "note.txt");
    writeFileSync(note, "no photo");
    const empty = path.join(scratch, "empty.jpg");
    writeFileSync(empty, "");
    for (const [file, why] of [
      [large, /50 MB/],
      [note, /is not an image/],
      [empty, /is empty/],
    ]) {
      await tab.choose(file);
      await tab.until("the reason", (text) => document.body.textContent.includes(text), path.basename(file));
      await tab.reaches("failed");
      assert.match(await tab.text("#failed-detail"), why);
    }
    await tab.choose(large);
    await inspect(tab, "4-failed-too-large");
    assert.ok(!tab.events.some((event) => event.startsWith("POST")), "it was sent");
    assert.ok(!tab.events.includes("WS created"));
    await tab.close();
  },

  async "who is asked to wait is told how long and can try again"(browser) {
    const tab = await Tab.open(browser, base);
    const detail = "too many photos <img src=x onerror=alert(1)> from this address";
    const busy = {
      status: 429,
      headers: { "Retry-After": "6" },
      contentType: "application/json",
      body: JSON.stringify({ detail, code: "rate_limited" }),
    };
    const release = await hold(tab, (upload) => (upload === 1 ? busy : null));
    release();
    await tab.choose(CAT);
    await tab.reaches("failed");
    assert.equal(await tab.text("#failed-detail"), detail, "the server's text is text");
    assert.match(await tab.text("#failed-wait"), /^You can try again in [1-6] s, at /);
    assert.ok(await tab.page.$eval("#retry", (button) => button.disabled));
    await inspect(tab, "5-wait");
    await tab.until("the end of the wait", () => !document.getElementById("retry").disabled);
    assert.equal(await tab.text("#failed-wait"), "You can try again now.");
    assert.equal(await tab.text("#status"), "You can try again now.");
    await tab.tabTo("#retry");
    await tab.page.keyboard.press("Enter");
    await tab.reaches("done");
    await tab.close(FAILED_ON_PURPOSE);
  },

  async "on a phone it is all within reach of a thumb"(browser) {
    const tab = await Tab.open(browser, base, { width: 360, height: 740 });
    const { page } = tab;
    const fits = async (state) => {
      const seen = await page.evaluate(() => ({
        inside: document.documentElement.scrollWidth,
        window: innerWidth,
        small: [...document.querySelectorAll("button, a")]
          .map((control) => [control.textContent.trim(), control.getBoundingClientRect().height])
          .filter(([, height]) => height > 0 && height < 40),
      }));
      assert.equal(seen.window, 360, state);
      assert.ok(seen.inside <= 360, `${state}: ${seen.inside} pixels wide`);
      assert.deepEqual(seen.small, [], `${state}: too small to be hit`);
      await tab.shot(shots, `6-phone-${state}`);
    };
    await fits("empty");
    assert.ok(!(await page.$eval("#choose .with-mouse", (it) => it.checkVisibility())));
    await tab.chooseBy(() => page.tap("#pick"), CAT);
    await tab.reaches("done");
    await fits("done");
    await page.tap("[data-effect=dithering]");
    await tab.until("the tap", () => document.getElementById("done-title").textContent === "Dithering");
    await page.evaluate(() => scrollTo(0, 0));
    const box = await (await page.$("#compare")).boundingBox();
    const finger = await page.touchscreen.touchStart(box.x + box.width / 2, box.y + box.height / 2);
    await finger.move(box.x + box.width * 0.8, box.y + box.height / 2);
    await finger.end();
    const value = Number(await page.$eval("#split", (slider) => slider.value));
    assert.ok(Math.abs(value - 80) <= 3, `the line is at ${value} %, the finger at 80 %`);
    await tab.close();
  },

  async "without the WebSocket everything else works"(browser) {
    const before = () => {
      globalThis.WebSocket = class extends WebSocket {
        constructor(url) {
          super(new URL("/ws/there-is-no-such-thing", url));
        }
      };
    };
    const tab = await Tab.open(browser, base, { before, motion: "reduce" });
    await tab.choose(CAT);
    await tab.reaches("done");
    assert.equal(tab.progress.length, 0);
    const shown = await tab.page.evaluate(() => globalThis.shown);
    assert.ok(shown.some((entry) => entry.value === null && entry.step === "Working on the photo"));
    // A bar that does not know how far it is moves, except for who asked for no motion.
    assert.ok(shown.every((entry) => entry.moving === 0));
    await tab.close(/WebSocket connection to .* failed/);
  },

  async "a photo is dropped, pasted and given up, and another one takes its place"(browser) {
    const tab = await Tab.open(browser, base);
    const { page } = tab;
    const release = await hold(tab);
    const bring = (kind, name) =>
      page.evaluate((kind, name, base64) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], name, { type: "image/jpeg" }));
        const options = { bubbles: true, cancelable: true };
        document.body.dispatchEvent(
          kind === "paste"
            ? new ClipboardEvent(kind, { ...options, clipboardData: carried })
            : new DragEvent(kind, { ...options, dataTransfer: carried }),
        );
      }, kind, name, readFileSync(CAT).toString("base64"));

    await bring("dragover", "dropped.jpg");
    assert.ok(await page.evaluate(() => document.documentElement.classList.contains("over")));
    await tab.shot(shots, "1-empty-over");
    await bring("drop", "dropped.jpg");
    await tab.reaches("working");
    assert.equal(await tab.text("#working-name"), "dropped.jpg");
    await page.click("#cancel");
    await tab.reaches("choose");
    assert.equal(await tab.focus(), "pick");

    await bring("paste", "pasted.jpg");
    await tab.reaches("working");
    await bring("drop", "second.jpg");
    await tab.until("the second", () => document.getElementById("working-name").textContent === "second.jpg");
    release();
    await tab.reaches("done");
    const file = await page.$eval("#save", (link) => link.download);
    assert.equal(file, "second.cutout.png");
    await tab.close();
  },
};

const browser = await launch();
let failures = 0;
try {
  console.log(`# ${await browser.version()}`);
  for (const [name, walk] of Object.entries(walks)) {
    if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue;
    const begun = Date.now();
    try {
      await walk(browser);
      console.log(`ok - ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failures += 1;
      console.log(`NOT OK - ${name}\n${error.stack}`);
    }
  }
} finally {
  await browser.close();
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(failures === 0 ? 0 : 1);
