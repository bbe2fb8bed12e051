// Walks through reports of `cutout compare` in a real browser:
//
//     node tests/compare/report.mjs SMALL.html LARGE.html FOLDER_FOR_SCREENSHOTS [NAME…]
//
// The small one has everything that a report can have, the large one more than a thousand photos.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { Tab, launch } from "../page/browser.mjs";

const [small, large, shots, ...wanted] = process.argv.slice(2);
const HOSTILE = 'x"><img src=x onerror=alert(1)>.jpg';

const LOOKS = [
  { look: "light", width: 1280, scheme: "light" },
  { look: "dark", width: 1280, scheme: "dark" },
  { look: "phone-light", width: 360, scheme: "light" },
  { look: "phone-dark", width: 360, scheme: "dark" },
];

async function open(browser, file, options = {}) {
  const tab = await Tab.open(browser, pathToFileURL(path.resolve(file)).href, options);
  const others = tab.events.filter((event) => !/^GET image\/(png|jpeg|svg\+xml)[;,]/.test(event)).slice(1);
  assert.deepEqual(others, [], "something was asked for beside the file");
  return tab;
}

/** What the report was made of. */
const dataOf = (tab) => tab.page.$eval("#data", (script) => JSON.parse(script.textContent));

/** The names of the photos, in the order shown. */
const listed = (tab) => tab.page.$$eval("#list .open", (buttons) => buttons.map((one) => one.textContent));

const painted = (tab) => tab.page.$$eval("#list canvas", (all) => all.filter((one) => one.width > 0).length);

const settled = (tab) => tab.until("pictures", () => {
  const seen = [...document.querySelectorAll("#list .row")].filter((row) => {
    const { top, bottom } = row.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
  return seen.every((row) => "painted" in row.dataset);
});

async function set(tab, selector, value) {
  await tab.page.$eval(selector, (field, to) => {
    if (field.type === "checkbox") field.checked = to;
    else field.value = to;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }, value);
}

/** What is in the window. The whole page would be mostly rows that nobody looks at. */
async function shot(tab, name) {
  await settled(tab);
  mkdirSync(shots, { recursive: true });
  await tab.page.screenshot({ path: path.join(shots, `${name}.png`) });
}

/** From everybody's side: axe finds no barrier, nothing sticks out, and there are pictures. */
async function inspect(tab, state, ...places) {
  const { page } = tab;
  const before = page.viewport();
  for (const { look, width, scheme } of LOOKS) {
    await page.setViewport({ width, height: width < 600 ? 740 : 900 });
    await tab.media({ scheme, motion: "reduce" });
    const inside = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(inside <= width, `${state}: ${inside} pixels wide on a window of ${width}`);
    const beyond = await page.$$eval("#tools label *", (all) => all.filter((one) => {
      const [field, form] = [one, one.closest("form")].map((element) => element.getBoundingClientRect());
      return field.right > form.right + 1;
    }).map((one) => one.id));
    assert.deepEqual(beyond, [], `${state}: fields beyond their form on a window of ${width}`);
    assert.deepEqual(await tab.barriers(), [], `${state}, ${look}`);
    for (const [name, selector] of places) {
      await page.$eval(selector, (element) => element.scrollIntoView());
      await shot(tab, `${state}-${name}-${look}`);
    }
  }
  await page.setViewport(before);
  await tab.media({});
}

const walks = {
  async "the report shows its figures and asks nobody"(browser) {
    const tab = await open(browser, small);
    const data = await dataOf(tab);
    assert.equal(await tab.text("h1"), "A brightness and B brightness-u8");
    const rows = await tab.page.$$eval("#apart tbody tr", (all) => all.length);
    assert.equal(rows, 6);
    const mean = data.statistics.agreement[0].spread.mean.value;
    assert.ok((await tab.text("#apart tbody td")).startsWith(`${(mean * 100).toFixed(2)} %(`));
    assert.equal(await tab.page.$$eval("#truth tbody tr", (all) => all.length), 12);
    assert.match(await tab.text("#speed"), /Memory at most.* MB/);
    assert.match(await tab.text("#failures"), /text\.jpg.*unsupported_format/);
    const bars = await tab.page.$$eval("#histogram rect", (all) => all.length);
    assert.equal(bars, 10);
    const labels = await tab.page.$$eval("#histogram .number", (all) => all.map((one) => Number(one.textContent)));
    assert.equal(labels.reduce((sum, one) => sum + one, 0), data.photos.length);
    assert.ok((await listed(tab)).includes(HOSTILE), "a file name is text");
    assert.equal(await tab.page.$$eval("img", (all) => all.length), 0, "a file name became markup");
    await settled(tab);
    await inspect(tab, "report", ["top", "header"], ["photos", "#photos-title"]);
    await tab.close();
  },

  async "photos are sorted and filtered"(browser) {
    const tab = await open(browser, small);
    const { photos } = await dataOf(tab);
    const by = (value) => photos.toSorted((one, other) => value(other) - value(one)).map(value);
    const shown = async (value) => {
      const names = await listed(tab);
      return names.map((name) => value(photos.find((photo) => photo.name === name)));
    };
    const measures = {
      difference: (photo) => photo.difference,
      iou: (photo) => -photo.iou,
      coverage: ({ arms: [a, b] }) => Math.abs(b.coverage - a.coverage),
      slower: ({ arms: [a, b] }) => b.total_ms - a.total_ms,
      "time-a": ({ arms: [a] }) => a.total_ms,
      "a-mae": ({ arms: [a, b] }) => b.measures.mae - a.measures.mae,
    };
    for (const [key, value] of Object.entries(measures)) {
      await set(tab, "#sort", key);
      assert.deepEqual(await shown(value), by(value), key);
    }
    await set(tab, "#reverse", true);
    assert.deepEqual(await shown(measures["a-mae"]), by(measures["a-mae"]).reverse());
    await set(tab, "#reverse", false);
    await set(tab, "#sort", "name");
    const names = await listed(tab);
    assert.deepEqual(names, names.toSorted((a, b) => new Intl.Collator("en").compare(a, b)));

    await set(tab, "#name", "CUP");
    assert.deepEqual(await listed(tab), ["cup.jpg"]);
    assert.equal(await tab.text("#count"), `1 of ${photos.length} photos`);
    await set(tab, "#name", "");
    const middle = photos.map((photo) => photo.difference).toSorted((a, b) => a - b)[4];
    await set(tab, "#least", String(middle * 100 - 1e-9));
    assert.equal((await listed(tab)).length, photos.filter((photo) => photo.difference >= middle).length);
    await tab.close();
  },

  async "a photo is looked into with the keyboard alone"(browser) {
    const tab = await open(browser, small);
    const { page } = tab;
    await settled(tab);
    await tab.tabTo("#list li:first-child .open");
    await page.keyboard.press("Enter");
    const [first, second] = await listed(tab);
    assert.equal(await tab.text("#viewer-title"), first);
    await tab.until("the large picture", () => document.getElementById("left").width > 0);
    const picture = async () => (await page.$("#compare")).screenshot({ encoding: "base64" });
    await tab.tabTo("#split");
    const line = () => page.$eval("#left", (canvas) => getComputedStyle(canvas).clipPath);
    const middle = await line();
    for (let step = 0; step < 20; step += 1) await page.keyboard.press("ArrowRight");
    assert.notEqual(await line(), middle);
    const spoken = await page.$eval("#split", (slider) => slider.getAttribute("aria-valuetext"));
    assert.equal(spoken, "70 % A: brightness, 30 % B: brightness-u8");
    const cutOuts = await picture();
    await set(tab, "#left-what", "difference");
    await set(tab, "#right-what", "photo");
    await tab.until("other sides", () => document.getElementById("right").ariaLabel.startsWith("Photo"));
    assert.notEqual(await picture(), cutOuts);
    await page.keyboard.press("PageDown");
    assert.equal(await tab.text("#viewer-title"), second);
    await inspect(tab, "viewer", ["large", "#viewer-title"]);
    await page.keyboard.press("Escape");
    assert.equal(await page.$eval("#viewer", (dialog) => dialog.open), false);
    const focus = await page.evaluate(() => document.activeElement.textContent);
    assert.equal(focus, second, "the focus is where the reader was");
    await tab.close();
  },

  async "the line between both follows the mouse"(browser) {
    const tab = await open(browser, small);
    const { page } = tab;
    // Rows get their height as they come into view: only then do they stay where they are.
    await page.$eval("#list .tiles", (tiles) => tiles.scrollIntoView({ block: "center" }));
    await tab.until("the row", () => "painted" in document.querySelector("#list .row").dataset);
    await page.click("#list .tiles");
    await tab.until("the large picture", () => document.getElementById("left").width > 0);
    const box = await (await page.$("#compare")).boundingBox();
    const y = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width / 2, y);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.25, y, { steps: 5 });
    await page.mouse.up();
    const value = Number(await page.$eval("#split", (slider) => slider.value));
    assert.ok(Math.abs(value - 25) <= 2, `the line is at ${value} %, the mouse at 25 %`);
    await page.click("#close");
    await tab.until("the pixels to be given back", () => document.getElementById("left").width === 0);
    await tab.close();
  },

  async "cut-outs and difference are what the mattes say"(browser) {
    const tab = await open(browser, large);
    const { page } = tab;
    await set(tab, "#sort", "difference");
    await settled(tab);
    // B's disc is larger: nothing of the difference is A's colour, and B's cut-out has more alpha.
    const found = await page.$eval("#list li:first-child", (row) => {
      const pixels = [...row.querySelectorAll("canvas")].map((canvas) => {
        const { width, height } = canvas;
        return canvas.getContext("2d").getImageData(0, 0, width, height).data;
      });
      const sum = (data) => data.reduce((all, value, at) => (at % 4 === 3 ? all + value / 255 : all), 0);
      const [, a, b, difference] = pixels;
      let [blue, orange] = [0, 0];
      for (let at = 0; at < difference.length; at += 4) {
        const [red, , other] = difference.subarray(at, at + 3);
        if (other - red > 120) blue += 1;
        if (red - other > 120) orange += 1;
      }
      return { a: sum(a), b: sum(b), blue, orange };
    });
    assert.ok(Math.abs(found.a - Math.PI * 18 * 18) < 40, JSON.stringify(found));
    assert.ok(Math.abs(found.b - Math.PI * 34 * 34) < 60, JSON.stringify(found));
    assert.equal(found.blue, 0);
    assert.ok(Math.abs(found.orange - (found.b - found.a)) < 150, JSON.stringify(found));
    await tab.close();
  },

  async "a thousand photos and more scroll with few of them decoded"(browser) {
    const tab = await open(browser, large);
    const { page } = tab;
    const names = await listed(tab);
    assert.equal(names.length, 1200);
    assert.deepEqual([names[0], names[1199]], ["photo-1199.png", "photo-0000.png"]);
    await settled(tab);
    assert.ok((await painted(tab)) <= 60);
    const seen = new Set();
    for (const share of [0.2, 0.5, 0.8, 1]) {
      await page.evaluate((to) => scrollTo(0, document.documentElement.scrollHeight * to), share);
      await settled(tab);
      const top = await page.evaluate(() => {
        const row = [...document.querySelectorAll("#list .row")].find((one) => one.getBoundingClientRect().bottom > 200);
        return row.querySelector(".open").textContent;
      });
      seen.add(top);
      await tab.until("pictures to be given back", () => {
        const all = [...document.querySelectorAll("#list canvas")];
        return all.filter((canvas) => canvas.width > 0).length <= 60;
      });
    }
    assert.equal(seen.size, 4);
    const begun = Date.now();
    await set(tab, "#sort", "name");
    await page.evaluate(() => scrollTo(0, 0));
    await settled(tab);
    assert.equal((await listed(tab))[0], "photo-0000.png");
    console.log(`# sorted and shown in ${Date.now() - begun} ms`);
    await set(tab, "#name", "07");
    assert.equal(await tab.text("#count"), "131 of 1,200 photos");
    await settled(tab);
    await shot(tab, "large-filtered");
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
}
process.exit(failures === 0 ? 0 : 1);
