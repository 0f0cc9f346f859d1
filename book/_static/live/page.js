// The instruments of the live page: a form of controls, rows of pictures, and what they say.

import { Gaussian, dot, emergence, levels, noise, plus, scaled, size } from "./theory.js";
import { Tokenizer, denoiser, loadAll, paint } from "./network.js";

const STEPS = 20;
const FILES = new URL("./", import.meta.url);
const RANDOM = 2 ** 29; // the seed of a random direction, far from those of pictures
const CLOCKS = [1, 2, 3, 5, 10, 20, 50, 100, 150];
const SHOWN = { state: "state", estimate: "endpoint estimate", end: "end without the kick", kicked: "end with the kick" };

const few = (value) => Number(value.toPrecision(2)).toString().replace("-", "−");
const share = (value) => `${Math.round(100 * value)} %`;
const norm = (x) => Math.sqrt(dot(x, x));
const nextFrame = () => new Promise(requestAnimationFrame);
const lessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Fill a canvas with values in [0, 1], one or three channels one after the other. */
function fill(canvas, values, [channels, height, width]) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const n = width * height;
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * values[channels === 1 ? i : c * n + i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** What both instruments share: from controls to runs, and from runs to pictures. */
class Instrument {
  constructor(form, facts, whole) {
    Object.assign(this, { form, facts, whole, runs: {}, turn: 0, queue: Promise.resolve() });
    this.canvases = [...form.querySelectorAll("canvas[data-row]")];
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.anew = true;
      if (this.networks) this.repaint({ watch: true });
    });
    form.addEventListener("input", ({ target }) => this.changed(target.name));
    const load = form.elements.load;
    const bytes = Object.values(facts.networks).reduce((sum, { bytes }) => sum + bytes, facts.runtime);
    load.textContent += ` (${(bytes / 1e6).toFixed(0)} MB)`;
    load.addEventListener("click", () => this.load(load));
    if (typeof WebAssembly === "undefined") {
      load.replaceWith("This browser has no WebAssembly, without which the network cannot paint here.");
    }
    form.elements.play?.addEventListener("click", () => this.play());
    form.hidden = false;
  }

  number(name) {
    const { value, min, max } = this.form.elements[name];
    return Math.min(Math.max(Number(value) || 0, Number(min)), Number(max));
  }

  get noise() {
    return noise(Math.trunc(this.number("seed")), this.facts.dim);
  }

  get start() {
    return scaled(this.noise, size(this.levels[0]));
  }

  /** The kick: at which step, along which unit vector, and how long in units in which the noise has variance 1. */
  get kick() {
    const which = this.form.elements.direction.value;
    const random = noise(RANDOM, this.facts.dim);
    const unit = which === "random" ? scaled(random, 1 / norm(random)) : this.whole.rows[which - 1];
    return { at: this.number("at"), unit, length: this.number("strength") };
  }

  kicked(state) {
    const { at, unit, length } = this.kick;
    return plus(state, unit, length * size(this.levels[at]));
  }

  /** The theory's two runs, without and with the kick, each a list of frames {state, estimate}. */
  paintTheory() {
    const frames = ({ states, estimates }) => states.map((state, i) => ({ state, estimate: estimates[i] }));
    const base = frames(this.theory.paint(this.start, this.levels));
    const { at } = this.kick;
    const later = frames(this.theory.paint(this.kicked(base[at].state), this.levels, at));
    this.runs.theory = { base, kicked: [...base.slice(0, at), ...later] };
  }

  /** The same two runs of the network, shown as they go. `watch` moves the slider along. */
  repaint({ watch = false } = {}) {
    const turn = ++this.turn;
    const stale = () => turn !== this.turn;
    const work = async () => {
      if (stale()) return;
      const denoise = await this.denoiser();
      if (!denoise) return;
      const { at } = this.kick;
      const follow = async (frames, x, first) => {
        for await (const frame of paint(denoise, x, this.levels.slice(first))) {
          frames.push(frame);
          if (watch) this.form.elements.step.value = frames.length - 1;
          if (!lessMotion()) await this.draw();
          await nextFrame();
          if (stale()) return false;
        }
        await this.draw();
        return true;
      };
      if (this.anew || this.runs.network?.base.length !== STEPS + 1) {
        this.anew = false;
        const base = [];
        this.runs.network = { base, kicked: base };
        if (!(await follow(base, this.start, 0))) return;
      }
      const { base } = this.runs.network;
      this.runs.network.kicked = base.slice(0, at);
      if (!(await follow(this.runs.network.kicked, this.kicked(base[at].state), at))) return;
      this.form.classList.remove("live-stale");
    };
    this.queue = this.queue.then(work).catch((error) => this.say("problem", `The network stopped: ${error.message}.`));
    return this.queue;
  }

  /** A control was moved: theory at once, the network when the hand rests. */
  changed(name) {
    if (name === "prompt" || name === "brush") return;
    if (name !== "step") this.paintTheory();
    if (this.networks && !["step", "pcs"].includes(name)) {
      this.turn++;
      this.anew ||= !["at", "strength", "direction"].includes(name);
      this.form.classList.add("live-stale");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.repaint(), 250);
    }
    this.draw();
  }

  async load(button) {
    button.disabled = true;
    button.textContent = "Loading …";
    try {
      this.networks = await loadAll(this.facts, FILES);
    } catch (error) {
      button.replaceWith(`The network could not be loaded: ${error.message}.`);
      return;
    }
    button.remove();
    for (const node of this.form.querySelectorAll("[data-needs=network]")) node.hidden = false;
    await this.repaint({ watch: true });
  }

  /** Let the run pass by; who asks for less motion gets its end. */
  async play() {
    for (let i = lessMotion() ? STEPS : 0; i <= STEPS; i++) {
      this.form.elements.step.value = i;
      await this.draw();
      await pause(150);
    }
  }

  async draw() {
    const step = this.number("step");
    const turn = (this.drawing = {});
    for (const canvas of this.canvases) {
      const { row, shows } = canvas.dataset;
      const runs = this.runs[row];
      if (!runs) continue;
      const frames = shows === "end" ? runs.base : runs.kicked;
      const at = Math.min(["end", "kicked"].includes(shows) ? STEPS : step, frames.length - 1);
      if (at < 0) continue;
      const picture = await this.picture(frames[at], shows, this.levels[at]);
      if (turn !== this.drawing) return;
      fill(canvas, picture.values, picture.shape);
      const when = shows === "state" || shows === "estimate" ? ` at step ${at} of ${STEPS}` : "";
      canvas.setAttribute("aria-label", `${row === "theory" ? "Theory" : "Network"}: ${SHOWN[shows]}${when}`);
    }
    this.tell(step);
  }

  say(name, text) {
    const place = this.form.elements[name];
    if (place.textContent !== text) place.textContent = text;
  }

  /** How far the kick moved the end along its own direction. */
  answer({ base, kicked }) {
    const complete = base !== kicked && base.length > STEPS && kicked.length > STEPS;
    return complete ? dot(this.kick.unit, plus(kicked[STEPS].estimate, base[STEPS].estimate, -1)) : NaN;
  }

  tell(step) {
    for (const output of this.form.querySelectorAll("output[name^=show-]")) {
      output.textContent = this.form.elements[output.name.replace("show-", "")].value.replace("-", "−");
    }
    const { alpha, sigma } = this.levels[step];
    const { at, length } = this.kick;
    const { theory, network } = this.runs;
    const standing = share(this.theory.standing(this.levels[step]));
    this.say("now", `Step ${step} of ${STEPS}, σ/α = ${few(sigma / alpha)}: ${standing} of the theory's variance stands.`);
    const moved = this.answer(theory);
    let text = `A kick of ${few(length)} at step ${at} moves the theory's end by ${few(moved)} along the kick`;
    if (!network) {
      this.say("answer", `${text}.`);
      return;
    }
    const answered = this.answer(network);
    text += Number.isNaN(answered) ? "; the network is painting." : `, the network's by ${few(answered)}.`;
    const frame = network.kicked[Math.min(step, network.kicked.length - 1)];
    if (frame) {
      const i = Math.min(step, network.kicked.length - 1);
      const [a, b] = [frame, theory.kicked[i]].map(({ estimate }) => plus(estimate, this.whole.mu, -1));
      text += ` Less the mean, their estimates correlate at ${few(dot(a, b) / (norm(a) * norm(b) || 1))}.`;
    }
    this.say("answer", text);
  }
}

/** Clothes: every number of a state is a pixel, so the theory needs no network to be seen. */
class Clothes extends Instrument {
  constructor(form, facts, whole) {
    super(form, facts, whole);
    this.strokes = new Float64Array(facts.dim);
    this.pad(form.querySelector(".live-pad"));
    this.clocks = CLOCKS.map((pc) => this.clock(pc, form.querySelector(".live-clocks")));
    for (const [i, name] of facts.classes.entries()) form.elements.class.add(new Option(name, i));
    form.elements.class.add(new Option("any", facts.nothing, true, true), 0);
    this.changed();
  }

  get levels() {
    return levels(this.form.elements.schedule.value, STEPS);
  }

  get noise() {
    return plus(super.noise, this.strokes);
  }

  get theory() {
    return this.whole.first(this.number("pcs"));
  }

  denoiser() {
    const label = BigInt64Array.of(BigInt(this.form.elements.class.value));
    return denoiser(this.networks.unet, this.facts, "label", [label], []);
  }

  picture(frame, shows, level) {
    const [values, range] = shows === "state" ? [scaled(frame.state, 1 / size(level)), 1 + level.sigma / size(level)] : [frame.estimate, 1];
    return { values: values.map((value) => 0.5 + value / (2 * range)), shape: this.facts.shape };
  }

  /** A picture of a PC in a ring that fills as its variance comes to stand. */
  clock(pc, list) {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    const text = document.createElement("span");
    canvas.setAttribute("role", "img");
    const row = this.whole.rows[pc - 1];
    const most = Math.max(...row.map(Math.abs));
    fill(canvas, row.map((value) => 0.5 + value / (2 * most)), this.facts.shape);
    item.append(canvas, text);
    list.append(item);
    return { pc, item, canvas, text };
  }

  tell(step) {
    super.tell(step);
    const { alpha, sigma } = this.levels[step];
    const { theory } = this;
    for (const { pc, item, canvas, text } of this.clocks) {
      const value = emergence(theory.lam[pc - 1] ?? theory.rest, { alpha, sigma });
      item.style.setProperty("--share", value);
      text.innerHTML = `PC ${pc}<br>${share(value)}`;
      canvas.setAttribute("aria-label", `PC ${pc}, of which ${share(value)} stands`);
    }
    fill(this.padCanvas, this.noise.map((value) => 0.5 + value / 6), this.facts.shape);
    this.cursor?.();
  }

  /** The noise, on which strokes are added by pointer, or by arrow keys and the space bar. */
  pad(canvas) {
    const [, height, width] = this.facts.shape;
    const brush = { x: width / 2, y: height / 2 };
    this.padCanvas = canvas;
    const dab = () => {
      const sign = this.form.elements.brush.value === "light" ? 1 : -1;
      this.strokes.forEach((value, i) => {
        const distance = (i % width - brush.x) ** 2 + (Math.floor(i / width) - brush.y) ** 2;
        this.strokes[i] = Math.min(1, Math.max(-1, value + 0.3 * sign * Math.exp(-distance / 5)));
      });
      this.changed("strokes");
    };
    this.cursor = () => {
      if (document.activeElement !== canvas) return;
      const context = canvas.getContext("2d");
      context.strokeStyle = "#d00";
      context.strokeRect(Math.round(brush.x) - 1.5, Math.round(brush.y) - 1.5, 4, 4);
    };
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      brush.x = ((event.clientX - box.left) / box.width) * width - 0.5;
      brush.y = ((event.clientY - box.top) / box.height) * height - 0.5;
      dab();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && move(event));
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      if (event.key === " ") dab();
      else if (event.key in keys) {
        brush.x = Math.min(width - 1, Math.max(0, brush.x + keys[event.key][0]));
        brush.y = Math.min(height - 1, Math.max(0, brush.y + keys[event.key][1]));
        this.draw();
      } else return;
      event.preventDefault();
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.draw());
    this.form.elements.clear.addEventListener("click", () => {
      this.strokes.fill(0);
      this.changed("strokes");
    });
  }
}

/** Scenes: a small Stable Diffusion. A state is a latent, so even the theory is seen through the decoder. */
class Scenes extends Instrument {
  constructor(form, facts, whole) {
    super(form, facts, whole);
    Object.assign(this, { tokenizer: new Tokenizer(facts.tokens), theory: whole, pictures: new WeakMap() });
    this.levels = levels(facts.schedule, STEPS);
    this.decoding = Promise.resolve();
    for (const prompt of facts.prompts) {
      form.querySelector("datalist").append(Object.assign(document.createElement("option"), { value: prompt }));
    }
    this.changed();
  }

  /** The network for the prompt, guided away from the empty one. */
  async denoiser() {
    const { limit } = this.facts.tokens;
    const prompt = this.form.elements.prompt.value;
    const tokens = ["", prompt].map((text) => this.tokenizer.encode(text));
    if (!tokens[1]) {
      this.say("problem", `The prompt has more tokens than the ${limit} that this model reads: shorten it.`);
      return null;
    }
    const unknown = this.tokenizer.unknown(prompt).map((word) => `“${word}”`);
    this.say("problem", unknown.length ? `In no caption of its training: ${unknown.join(", ")}.` : "");
    const embed = (one) => this.networks.text({ tokens: [one, [1, limit]] });
    const embeddings = [await embed(tokens[0]), await embed(tokens[1])];
    const width = embeddings[0].length / limit;
    return denoiser(this.networks.unet, this.facts, "text", embeddings, [limit, width], this.number("guidance"));
  }

  /** A frame's endpoint estimate through the decoder, one at a time and once each. */
  picture(frame) {
    if (!this.pictures.has(frame)) {
      const z = [Float32Array.from(frame.estimate), [1, ...this.facts.shape]];
      this.decoding = this.decoding.then(() => this.networks.decoder({ z }));
      this.pictures.set(frame, this.decoding);
    }
    return this.pictures.get(frame).then((values) => ({ values, shape: [3, 64, 64] }));
  }

  draw() {
    return this.networks ? super.draw() : this.tell(this.number("step"));
  }
}

/** Fetch what a model's instrument computes with, and start it. */
async function begin(Kind, name, id) {
  const form = document.getElementById(id);
  const facts = await (await fetch(new URL(`${name}.json`, FILES))).json();
  const buffer = await (await fetch(new URL(facts.numbers, FILES))).arrayBuffer();
  form.previousElementSibling.remove();
  return new Kind(form, facts, Gaussian.read(buffer, facts));
}

window.live = {
  clothes: begin(Clothes, "fashion-ddpm", "live-clothes"),
  scenes: begin(Scenes, "scenes-sd", "live-scenes"),
};
