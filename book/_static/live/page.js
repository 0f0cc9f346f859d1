// The instruments of the live page: a form of controls, rows of pictures, and what they say.

import { Gaussian, dot, emergence, levels, noise, plus, scaled, size } from "./theory.js";
import { Tokenizer, denoiser, paint } from "./network.js";
import { offer } from "./loading.js";
import { fill, linear, put } from "./pictures.js";

const STEPS = 20;
const FILES = new URL("./", import.meta.url);
const RANDOM = 2 ** 29; // the seed of a random direction, far from those of pictures
const [LIGHT, DARK] = [[1, 0.62, 0], [0, 0.45, 0.9]]; // the colours of strokes on the noise
const CLOCKS = [1, 2, 3, 5, 10, 20, 50, 100, 150];
const SHOWN = { state: "state", estimate: "endpoint estimate", end: "end without the kick", kicked: "end with the kick" };

const few = (value) => Number(value.toPrecision(2)).toString().replace("-", "−");
const share = (value) => `${Math.round(100 * value)} %`;
const norm = (x) => Math.sqrt(dot(x, x));
const nextFrame = () => new Promise(requestAnimationFrame);
const lessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** What both instruments share: from controls to runs, and from runs to pictures. */
class Instrument {
  constructor(form, facts, whole) {
    Object.assign(this, { form, facts, whole, runs: {}, turn: 0, queue: Promise.resolve() });
    this.canvases = [...form.querySelectorAll("canvas[data-shows]")];
    this.films = [...form.querySelectorAll(".live-film canvas")];
    for (const film of this.films) film.addEventListener("click", (event) => this.pick(event));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.anew = true;
      if (this.networks) this.repaint({ watch: true });
      else form.elements.load?.click();
    });
    form.addEventListener("input", ({ target }) => this.changed(target.name));
    offer(form, facts, FILES, (networks) => {
      Object.assign(this, { networks, dirty: true });
      return this.repaint({ watch: true });
    });
    form.elements.play.addEventListener("click", () => this.play());
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
    this.dirty = false;
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

  /** A control was moved: theory with the next frame, the network when the hand rests. */
  changed(name) {
    if (name === "brush") return;
    this.dirty ||= name !== "step";
    if (this.networks && !["step", "pcs", "prompt"].includes(name)) {
      this.turn++;
      this.anew ||= !["at", "strength", "direction"].includes(name);
      this.form.classList.add("live-stale");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.repaint(), 250);
    }
    this.soon ??= nextFrame().then(() => {
      this.soon = undefined;
      return this.draw();
    });
  }

  /** Show the step whose picture in a film was pressed. */
  pick(event) {
    const box = event.target.getBoundingClientRect();
    this.form.elements.step.value = Math.floor(((event.clientX - box.left) / box.width) * (STEPS + 1));
    this.draw();
  }

  /** Let the run pass by, once however often it is asked; who asks for less motion gets its end. */
  async play() {
    const playing = (this.playing = {});
    for (let i = lessMotion() ? STEPS : 0; i <= STEPS && playing === this.playing; i++) {
      this.form.elements.step.value = i;
      await this.draw();
      await pause(150);
    }
  }

  async draw() {
    if (this.dirty) this.paintTheory();
    const step = this.number("step");
    const turn = (this.drawing = {});
    this.form.style.setProperty("--step", step);
    this.form.style.setProperty("--kick", this.kick.at);
    this.tell(step);
    for (const canvas of this.canvases) {
      const { row, shows } = canvas.dataset;
      const runs = this.runs[row];
      if (!runs) continue;
      const frames = shows === "end" ? runs.base : runs.kicked;
      const at = Math.min(["end", "kicked"].includes(shows) ? STEPS : step, frames.length - 1);
      if (at < 0) continue;
      const picture = await this.picture(frames[at], shows, this.levels[at]);
      if (turn !== this.drawing) return;
      fill(canvas, picture);
      const when = shows === "state" || shows === "estimate" ? ` at step ${at} of ${STEPS}` : "";
      canvas.setAttribute("aria-label", `${row === "theory" ? "Theory" : "Network"}: ${SHOWN[shows]}${when}`);
    }
    await nextFrame(); // a hand that drags sees the pictures move before the films
    for (const film of this.films) {
      if (turn !== this.drawing) return;
      const frames = this.runs[film.dataset.row]?.kicked;
      for (let i = 0; frames && i <= STEPS; i++) {
        if (film.frames?.[i] === (frames[i] ?? null)) continue;
        const picture = frames[i] && (await this.picture(frames[i], "estimate", this.levels[i]));
        if (turn !== this.drawing) return;
        put(film, picture, i, STEPS + 1);
        (film.frames ??= [])[i] = frames[i] ?? null;
      }
    }
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
    const { at, length, unit } = this.kick;
    const { theory, network } = this.runs;
    const standing = share(this.theory.standing(this.levels[step]));
    this.say("now", `At step ${step} σ/α = ${few(sigma / alpha)}, and ${standing} of the theory's variance stands.`);
    const spread = Math.sqrt(dot(unit, this.whole.apply(unit, (lam) => lam)));
    const moved = ({ base, kicked }) => dot(unit, plus(kicked[STEPS].estimate, base[STEPS].estimate, -1)) / spread;
    const complete = network && network.base !== network.kicked && network.kicked.length > STEPS;
    const also = complete ? ` and the network's by ${few(moved(network))}` : "";
    let text = `The kick of ${few(length)} at step ${at} moves the theory's end by ${few(moved(theory))}${also}`;
    text += ", in standard deviations of the pictures along it.";
    const i = Math.min(step, (network?.kicked.length ?? 0) - 1);
    if (i >= 0) {
      const [a, b] = [network, theory].map(({ kicked }) => plus(kicked[i].estimate, this.whole.mu, -1));
      text += ` Less the mean, their estimates at step ${i} correlate at ${few(dot(a, b) / (norm(a) * norm(b) || 1))}.`;
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
    return this.grey(values, 2 * range);
  }

  /** Values around 0 as greys, `range` of them from black to white. */
  grey(values, range) {
    return { values: values.map((value) => 0.5 + value / range), shape: this.facts.shape };
  }

  /** A picture of a PC in a ring that fills as its variance comes to stand. */
  clock(pc, list) {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    const text = document.createElement("span");
    canvas.setAttribute("role", "img");
    const row = this.whole.rows[pc - 1];
    const most = Math.max(...row.map(Math.abs));
    fill(canvas, this.grey(row, 2 * most));
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
    this.showPad();
  }

  /** The noise in greys, and the strokes on it in two colours. */
  showPad() {
    const [grey, tint] = [this.grey(this.noise, 6).values, this.strokes.map((value) => 0.8 * Math.abs(value))];
    const channel = (c) => grey.map((value, i) => value + tint[i] * ((this.strokes[i] > 0 ? LIGHT : DARK)[c] - value));
    const [, height, width] = this.facts.shape;
    fill(this.padCanvas, { values: [0, 1, 2].flatMap((c) => [...channel(c)]), shape: [3, height, width] });
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
        this.strokes[i] = Math.min(1, Math.max(-1, value + 0.4 * sign * Math.exp(-distance / 5)));
      });
      this.changed("strokes");
    };
    this.cursor = () => {
      if (document.activeElement !== canvas) return;
      const context = canvas.getContext("2d");
      context.strokeStyle = "#d00";
      context.strokeRect(Math.round(brush.x) - 1.5, Math.round(brush.y) - 1.5, 4, 4);
    };
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    // A quick stroke has no gaps: dabs stand at most 1.5 pixels apart.
    const move = (event, jump) => {
      const [x, y] = place(event);
      const [dx, dy] = [x * width - 0.5 - brush.x, y * height - 0.5 - brush.y];
      const dabs = jump ? 1 : Math.ceil(Math.hypot(dx, dy) / 1.5);
      for (let i = 0; i < dabs; i++) {
        brush.x += dx / dabs;
        brush.y += dy / dabs;
        dab();
      }
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      move(event, true);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && move(event, false));
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

/** Scenes: a small Stable Diffusion. A state is a latent, so even the theory is seen through a decoder. */
class Scenes extends Instrument {
  constructor(form, facts, whole, buffer) {
    super(form, facts, whole);
    Object.assign(this, { tokenizer: new Tokenizer(facts.tokens), theory: whole, pictures: new WeakMap() });
    const { from, factor, explains } = facts.linear;
    this.standIn = linear(new Float32Array(buffer, 4 * from), facts.shape, factor);
    const note = form.querySelector(".live-load p");
    note.textContent = `Until then a linear decoder shows the theory; it gives ${share(explains)} of the pictures' variance.`;
    this.levels = levels(facts.schedule, STEPS);
    this.decoding = Promise.resolve();
    for (const prompt of facts.prompts) {
      form.querySelector("datalist").append(Object.assign(document.createElement("option"), { value: prompt }));
    }
    this.changed();
  }

  /** The tokens of the prompt, or null if it is too long; what is wrong with it is said. */
  get tokens() {
    const prompt = this.form.elements.prompt.value;
    const tokens = this.tokenizer.encode(prompt);
    const unknown = this.tokenizer.unknown(prompt).map((word) => `“${word}”`);
    let text = unknown.length ? `In no caption of its training: ${unknown.join(", ")}.` : "";
    if (!tokens) text = `The prompt has more tokens than the ${this.facts.tokens.limit} that this model reads: shorten it.`;
    this.say("problem", text);
    return tokens;
  }

  changed(name) {
    if (name === "prompt") this.tokens;
    else super.changed(name);
  }

  /** The network for the prompt, guided away from the empty one. */
  async denoiser() {
    const { limit } = this.facts.tokens;
    const tokens = [this.tokenizer.encode(""), this.tokens];
    if (!tokens[1]) return null;
    const embed = (one) => this.networks.text({ tokens: [one, [1, limit]] });
    const embeddings = [await embed(tokens[0]), await embed(tokens[1])];
    const width = embeddings[0].length / limit;
    return denoiser(this.networks.unet, this.facts, "text", embeddings, [limit, width], this.number("guidance"));
  }

  /** A frame's endpoint estimate through the decoder, one at a time and once each; until it is there, a stand-in. */
  picture(frame) {
    if (!this.networks) return this.standIn(frame.estimate);
    if (!this.pictures.has(frame)) {
      const z = [Float32Array.from(frame.estimate), [1, ...this.facts.shape]];
      this.decoding = this.decoding.then(() => this.networks.decoder({ z }));
      this.pictures.set(frame, this.decoding);
    }
    return this.pictures.get(frame).then((values) => ({ values, shape: [3, 64, 64] }));
  }
}

/** Fetch what a model's instrument computes with, and start it. */
async function begin(Kind, name, id) {
  const form = document.getElementById(id);
  const facts = await (await fetch(new URL(`${name}.json`, FILES))).json();
  const buffer = await (await fetch(new URL(facts.numbers, FILES))).arrayBuffer();
  form.previousElementSibling.remove();
  return new Kind(form, facts, Gaussian.read(buffer, facts), buffer);
}

window.live = {
  clothes: begin(Clothes, "fashion-ddpm", "live-clothes"),
  scenes: begin(Scenes, "scenes-sd", "live-scenes"),
};
