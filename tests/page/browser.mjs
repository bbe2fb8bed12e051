// Chromium as set-up unpacked it, and a tab that remembers everything that went wrong in it.

import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const PLACE = path.resolve(import.meta.dirname, "../../.cache/page");

/** Nothing here takes this long unless it is broken: the machine may be slow and shared. */
export const PATIENCE_MS = 120_000;

const installed = createRequire(path.join(PLACE, "package.json"));
const { default: puppeteer } = await import(pathToFileURL(installed.resolve("puppeteer-core")));
const AXE = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");

export async function launch() {
  const executablePath = process.env.CUTOUT_TEST_CHROMIUM ?? path.join(PLACE, "chromium/chromium");
  if (!existsSync(executablePath)) {
    throw new Error(`${executablePath} is missing: run \`make setup\` (or set CUTOUT_TEST_CHROMIUM)`);
  }
  // What came with it, as in scripts/provision/browser.py.
  const beside = path.dirname(executablePath);
  const libraries = [process.env.LD_LIBRARY_PATH, path.join(beside, "al2023/lib")];
  const letters = existsSync(path.join(beside, "fonts")) && {
    FONTCONFIG_PATH: path.join(beside, "fonts"),
  };
  return puppeteer.launch({
    executablePath,
    headless: "shell",
    env: { ...process.env, ...letters, LD_LIBRARY_PATH: libraries.filter(Boolean).join(":") },
    timeout: PATIENCE_MS,
    protocolTimeout: PATIENCE_MS,
    args: [
      // The sandbox refuses root, and wants user namespaces from others. The only page is ours.
      "--no-sandbox",
      "--disable-dev-shm-usage",
      "--disable-gpu",
      "--force-color-profile=srgb",
    ],
  });
}

/** A tab of its own session, watched from before its first request. */
export class Tab {
  static async open(browser, base, { width = 1200, height = 850, motion, before } = {}) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const tab = new Tab(base, context, page);
    page.setDefaultTimeout(PATIENCE_MS);
    await page.setViewport({ width, height, hasTouch: width < 600, isMobile: width < 600 });
    await tab.media({ motion });
    await tab.#watch();
    if (before) await page.evaluateOnNewDocument(before);
    tab.answer = await page.goto(base, { waitUntil: "networkidle0" });
    return tab;
  }

  constructor(base, context, page) {
    this.origin = new URL(base).origin;
    this.context = context;
    this.page = page;
    /** What a test must account for: console errors, refusals by the policy, foreign requests. */
    this.faults = [];
    /** What happened, in order: requests and the WebSocket's life. */
    this.events = [];
    /** What the WebSocket brought. */
    this.progress = [];
  }

  async #watch() {
    const { page } = this;
    page.on("pageerror", (error) => this.faults.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      if (!["error", "warn"].includes(message.type())) return;
      this.faults.push(`console: ${message.text()} (${message.location().url ?? ""})`);
    });
    // All from one session, which alone tells in which order things happened.
    const session = await page.createCDPSession();
    await session.send("Network.enable");
    session.on("Network.requestWillBeSent", ({ request }) => {
      const url = new URL(request.url);
      this.events.push(`${request.method} ${url.pathname}`);
      const own = url.origin === this.origin || ["blob:", "data:"].includes(url.protocol);
      if (!own) this.faults.push(`a request to another place: ${url.href}`);
    });
    session.on("Network.webSocketCreated", ({ url }) => {
      this.events.push("WS created");
      if (new URL(url).host !== new URL(this.origin).host) this.faults.push(`a socket to ${url}`);
    });
    session.on("Network.webSocketHandshakeResponseReceived", () => this.events.push("WS open"));
    session.on("Network.webSocketClosed", () => this.events.push("WS closed"));
    session.on("Network.webSocketFrameReceived", ({ response }) => {
      this.progress.push(JSON.parse(response.payloadData));
    });
    await page.evaluateOnNewDocument(() => {
      globalThis.refused = [];
      document.addEventListener("securitypolicyviolation", (event) => {
        globalThis.refused.push(`${event.effectiveDirective} ${event.blockedURI}`);
      });
      // Everything that the reader was shown while the service worked.
      globalThis.shown = [];
      addEventListener("DOMContentLoaded", () => {
        // The report of a comparison has none of this.
        if (!document.getElementById("working")) return;
        const note = () => {
          const bar = document.getElementById("bar");
          const entry = {
            value: bar.hasAttribute("value") ? bar.value : null,
            step: document.getElementById("step").textContent,
            said: document.getElementById("status").textContent,
            moving: document.getAnimations().length,
          };
          globalThis.shown.push(entry);
        };
        const options = { subtree: true, childList: true, characterData: true, attributes: true };
        for (const id of ["working", "status"]) {
          new MutationObserver(note).observe(document.getElementById(id), options);
        }
      });
    });
  }

  /** The reader's settings. */
  async media({ scheme = "light", motion = "no-preference" }) {
    await this.page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: motion },
    ]);
  }

  /** Tries in the page until it is so. */
  async until(what, probe, ...args) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const answer = await this.page.evaluate(probe, ...args);
      if (answer) return answer;
      if (Date.now() > deadline) throw new Error(`waited too long for ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Waits until the section with this id is the one shown. */
  async reaches(state) {
    const shown = await this.until("a state", (wanted) => {
      const visible = [...document.querySelectorAll("main > section")].find((s) => !s.hidden)?.id;
      const settled = wanted === visible || (wanted !== "failed" && visible === "failed");
      return settled && visible;
    }, state);
    if (shown === state) return;
    const why = await this.text("#failed");
    throw new Error(`${state} was not reached, but: ${why}`);
  }

  /** Waits until the browser has told of it. */
  async hears(event) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!this.events.includes(event)) {
      if (Date.now() > deadline) throw new Error(`no ${event} among:\n  ${this.events.join("\n  ")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  text(selector) {
    return this.page.$eval(selector, (element) => element.textContent.replace(/\s+/g, " ").trim());
  }

  /** The id of the element that has the focus. */
  focus() {
    return this.page.evaluate(() => document.activeElement.id);
  }

  /** Presses Tab until the element is reached, as somebody without a mouse does. */
  async tabTo(selector) {
    for (let presses = 0; presses < 40; presses += 1) {
      await this.page.keyboard.press("Tab");
      if (await this.page.evaluate((it) => document.activeElement.matches(it), selector)) return;
    }
    throw new Error(`Tab does not reach ${selector}`);
  }

  /** Hands the page a file as if it had been chosen. */
  async choose(file) {
    const input = await this.page.$("#file");
    await input.uploadFile(file);
  }

  /** Chooses a file in the dialog that `open` opens. */
  async chooseBy(open, file) {
    const dialog = this.page.waitForFileChooser();
    // The browser must know that the dialog is awaited before it opens.
    await this.page.evaluate(() => null);
    const [chooser] = await Promise.all([dialog, open()]);
    await chooser.accept([file]);
  }

  /** How many animations run that do not end at once, as the change of a button's colour does. */
  moving() {
    return this.page.evaluate(async () => {
      const running = document.getAnimations();
      const ended = running.map((animation) => animation.finished.then(() => false, () => false));
      const late = new Promise((resolve) => setTimeout(resolve, 1000, true));
      const still = await Promise.all(ended.map((end) => Promise.race([end, late])));
      return still.filter(Boolean).length;
    });
  }

  /** Every way in which axe finds the page hard to use, as text. */
  async barriers() {
    await this.page.evaluate(AXE);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document));
    return violations.map(
      ({ impact, id, nodes }) => `${impact}: ${id}: ${nodes.map((node) => node.html).join(" | ")}`,
    );
  }

  async shot(folder, name) {
    mkdirSync(folder, { recursive: true });
    await this.page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
  }

  /** Ends the session; whatever went wrong in it and is not among the expected is an error. */
  async close(...expected) {
    const refused = await this.page.evaluate(() => globalThis.refused);
    const faults = [...this.faults, ...refused.map((what) => `the policy refused ${what}`)];
    const surprises = faults.filter((fault) => !expected.some((pattern) => pattern.test(fault)));
    await this.context.close();
    if (surprises.length > 0) throw new Error(`in the browser:\n  ${surprises.join("\n  ")}`);
  }
}
