// Orders by name: the smallest change of a state after which a linear reading says what was asked, as the chapter on
// variations derives it, and what the theory and the network make of the changed state.

import { CLEAN, Gaussian, dot, plus, scaled } from "./theory.js";
import { denoiser, paint } from "./network.js";
import { fill, linear } from "./pictures.js";
import { offer } from "./loading.js";

const FILES = new URL("./", import.meta.url);
const REST = 250; // milliseconds until a hand is at rest
const few = (value) => Number(value.toPrecision(2)).toString();

/** Readings f = mean + W' z of whitened coordinates z, where W has the columns `weights` along the PCs. */
export class Readings {
  constructor(gaussian, level, { mean, weights, inverse }) {
    Object.assign(this, { gaussian, level, mean, weights, inverse });
  }

  /** The standard deviation of a state at the level, along a direction of variance lam. */
  deviation(lam) {
    return Math.hypot(this.level.alpha * Math.sqrt(lam), this.level.sigma);
  }

  whiten(x) {
    return this.gaussian.apply(plus(x, this.gaussian.mu, -this.level.alpha), (lam) => 1 / this.deviation(lam));
  }

  colour(z) {
    return plus(this.gaussian.apply(z, (lam) => this.deviation(lam)), this.gaussian.mu, this.level.alpha);
  }

  read(z) {
    const along = this.gaussian.rows.map((row) => dot(row, z));
    return this.mean.map((mean, j) => mean + dot(this.weights[j], along));
  }

  /** The smallest change of z that moves the readings by `delta`: W (W'W)^+ delta. */
  step(delta) {
    const parts = this.inverse.map((row) => dot(row, delta));
    const along = this.gaussian.rows.map((_, k) => parts.reduce((sum, part, j) => sum + part * this.weights[j][k], 0));
    return this.gaussian.combine({ along, outside: new Float64Array(this.gaussian.mu.length) }, () => 1);
  }
}

/** What the readings shall be: `orders` has a kind's index or a value for each factor, or undefined to leave it. */
export function wanted(read, factors, orders) {
  let at = 0;
  return factors.flatMap(({ kinds }, f) => {
    const n = kinds.length || 1;
    const now = read.slice(at, (at += n));
    if (orders[f] === undefined) return [...now];
    return kinds.length ? kinds.map((_, k) => Number(k === orders[f])) : [orders[f]];
  });
}

/** The instrument: controls of one painting, the theory's picture at once, the network's when it is there. */
class Knobs {
  constructor(form, facts, scene, gaussian, standIn, numbers) {
    Object.assign(this, { form, facts, scene, gaussian, standIn, numbers, turn: 0, queue: Promise.resolve() });
    this.readings = new Readings(gaussian, facts.levels[0], numbers);
    const { painting, reset } = form.elements;
    for (const seed of facts.seeds) painting.add(new Option(`seed ${seed}`, painting.length));
    this.controls = facts.factors.map((factor) => this.control(factor, form.querySelector(".live-knobs")));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => {
      target.dataset.ordered = ""; // a slider that was moved is an order, one at rest is none
      this.changed();
    });
    reset.addEventListener("click", () => this.clear());
    painting.addEventListener("input", () => this.clear());
    const { unet, decoder } = scene.networks;
    offer(form, { ...scene, networks: { unet, decoder } }, FILES, (networks) => {
      this.networks = networks;
      this.changed();
    });
    form.hidden = false;
    this.clear();
  }

  /** A choice among kinds, or a slider for a value. */
  control({ name, kinds }, place) {
    const label = Object.assign(document.createElement("label"), { textContent: name });
    const control = document.createElement(kinds.length ? "select" : "input");
    if (kinds.length) [new Option("as it is", ""), ...kinds.map((kind, k) => new Option(kind, k))].forEach((o) => control.add(o));
    else Object.assign(control, { type: "range", min: 0, max: 1, step: 0.05 });
    control.name = name;
    label.append(control);
    place.append(label);
    return control;
  }

  /** Withdraw all orders: each slider stands at what is read of the painting. */
  clear() {
    const read = this.readings.read(this.readings.whiten(this.state));
    let at = 0;
    for (const [f, { kinds }] of this.facts.factors.entries()) {
      const control = this.controls[f];
      delete control.dataset.ordered;
      control.value = kinds.length ? "" : read[at];
      at += kinds.length || 1;
    }
    this.changed();
  }

  get state() {
    return this.numbers.states[Number(this.form.elements.painting.value)];
  }

  get orders() {
    return this.controls.map(({ value, dataset }) => (value === "" || !("ordered" in dataset) ? undefined : Number(value)));
  }

  /** The state after the orders, and how long the step was. */
  ordered() {
    const z = this.readings.whiten(this.state);
    const read = this.readings.read(z);
    const step = this.readings.step(plus(wanted(read, this.facts.factors, this.orders), read, -1));
    const loud = Number(this.form.elements.loud.value);
    return { x: this.readings.colour(plus(z, step, loud)), length: loud * Math.sqrt(dot(step, step)) };
  }

  /** The Gaussian's end of a state; its estimate, which is smoother, while there is only a linear decoder. */
  theory(x) {
    const { level } = this.readings;
    return this.networks ? this.gaussian.flow(x, level, CLEAN) : this.gaussian.estimate(x, level);
  }

  changed() {
    clearTimeout(this.timer);
    this.form.elements["show-loud"].textContent = this.form.elements.loud.value;
    const { x, length } = this.ordered();
    const count = this.orders.filter((order) => order !== undefined).length;
    const text = `Orders: ${count}. The step is ${few(length)} standard deviations of the state long.`;
    this.form.elements.answer.textContent = count ? text : "No order is given.";
    this.show("theory", "before", this.theory(this.state));
    this.show("theory", "after", this.theory(x));
    if (!this.networks) return;
    this.form.classList.add("live-stale");
    const turn = ++this.turn;
    this.timer = setTimeout(() => {
      this.queue = this.queue.then(() => this.repaint(turn, x)).catch((error) => {
        this.form.elements.problem.textContent = `The network stopped: ${error.message}.`;
      });
    }, REST);
  }

  /** Let the network finish the painting, without the orders and with them. */
  async repaint(turn, x) {
    const { embedding, limit } = this.facts;
    const text = [this.numbers.embedding];
    const denoise = denoiser(this.networks.unet, this.scene, "text", text, [limit, embedding / limit]);
    for (const [shows, start] of [["before", this.state], ["after", x]]) {
      if (this.done?.[shows] === start) continue;
      let frame;
      for await (frame of paint(denoise, start, this.facts.levels)) if (turn !== this.turn) return;
      await this.show("network", shows, frame.estimate);
      this.done = { ...this.done, [shows]: start };
    }
    this.form.classList.remove("live-stale");
  }

  /** Show a latent: through the decoder, or through its stand-in until that is there. */
  async show(row, shows, latent) {
    const canvas = this.form.querySelector(`[data-row=${row}][data-shows=${shows}]`);
    const asked = (canvas.asked = {});
    let picture = this.standIn(latent);
    if (this.networks) {
      const values = await this.networks.decoder({ z: [Float32Array.from(latent), [1, ...this.scene.shape]] });
      picture = { ...picture, values };
    }
    if (asked === canvas.asked) fill(canvas, picture);
  }
}

/** Fetch what the instrument computes with, and start it. */
export async function begin(form) {
  const get = async (name) => (await fetch(new URL(name, FILES))).json();
  const bytes = async (name) => (await fetch(new URL(name, FILES))).arrayBuffer();
  const [facts, scene] = await Promise.all([get("knobs.json"), get("scenes-sd.json")]);
  const [buffer, own] = await Promise.all([bytes(scene.numbers), bytes(facts.numbers)]);
  const gaussian = Gaussian.read(buffer, scene);
  let from = 0;
  const part = (n) => {
    from += n;
    return new Float32Array(own, 4 * (from - n), n);
  };
  const rows = (count, n) => Array.from({ length: count }, () => Float64Array.from(part(n)));
  const m = facts.factors.reduce((sum, { kinds }) => sum + (kinds.length || 1), 0);
  const [[mean], weights, inverse] = [rows(1, m), rows(m, scene.pcs), rows(m, m)];
  const numbers = { mean, weights, inverse, states: rows(facts.seeds.length, scene.dim), embedding: part(facts.embedding) };
  const standIn = linear(new Float32Array(buffer, 4 * scene.linear.from), scene.shape, scene.linear.factor);
  form.previousElementSibling.remove();
  return new Knobs(form, facts, scene, gaussian, standIn, numbers);
}

// Nothing is fetched before the reader is near.
const form = document.getElementById("live-knobs");
window.live = {
  knobs: new Promise((done) => {
    const near = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      near.disconnect();
      done(begin(form));
    }, { rootMargin: "600px" });
    near.observe(form.previousElementSibling);
  }),
};
