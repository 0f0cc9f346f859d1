// The exact theory of one Gaussian, as the course derives it. Nothing here knows about the page.
//
// Data x0 ~ N(mu, Sigma) are seen as x = alpha x0 + sigma eps. A level is {alpha, sigma}. Along a principal component
// (PC) of variance lam the noisy state has the variance v = alpha^2 lam + sigma^2, and the probability-flow ODE keeps
// (x - alpha mu) / sqrt(v) constant. States are arrays of D numbers.

export const CLEAN = { alpha: 1, sigma: 0 };

export const size = ({ alpha, sigma }) => Math.hypot(alpha, sigma);
export const plus = (a, b, times = 1) => Float64Array.from(a).map((value, i) => value + times * b[i]);
export const scaled = (a, times) => Float64Array.from(a).map((value) => value * times);

export function dot(a, b) {
  let sum = 0; // a plain loop: this is where the time goes
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The share of a PC's variance that stands in the endpoint estimate: its clock. */
export function emergence(lam, { alpha, sigma }) {
  const signal = alpha ** 2 * lam;
  return signal > 0 ? signal / (signal + sigma ** 2) : 0;
}

/** How much the flow stretches a deviation along a direction of variance lam. */
export function gain(lam, from, to = CLEAN) {
  const variance = ({ alpha, sigma }) => alpha ** 2 * lam + sigma ** 2;
  return Math.sqrt(variance(to) / variance(from));
}

/** What the endpoint estimate makes of a state's deviation along a direction of variance lam. */
export function shrink(lam, { alpha, sigma }) {
  return lam > 0 ? (alpha * lam) / (alpha ** 2 * lam + sigma ** 2) : 0;
}

/** N(mu, Sigma) with variance lam[k] along the unit vector rows[k], and `rest` in every other direction. */
export class Gaussian {
  constructor(mu, rows, lam, rest) {
    Object.assign(this, { mu, rows, lam, rest });
  }

  /** The Gaussian in a file that tools/live.py wrote: mu, lam and the PCs one after the other, in float32. */
  static read(buffer, { dim, pcs, rest }) {
    const part = (from, n) => Float64Array.from(new Float32Array(buffer, 4 * from, n));
    const rows = Array.from({ length: pcs }, (_, k) => part(dim + pcs + k * dim, dim));
    return new Gaussian(part(0, dim), rows, part(dim, pcs), rest);
  }

  /** What is left when only the first n PCs are known: the variance of the others is spread evenly. */
  first(n) {
    const [D, r] = [this.mu.length, this.lam.length];
    const others = this.lam.subarray(n).reduce((sum, lam) => sum + lam, 0) + this.rest * (D - r);
    return new Gaussian(this.mu, this.rows.slice(0, n), this.lam.subarray(0, n), others / (D - n));
  }

  /** The coordinates of a deviation y along the PCs, and what of it lies outside them. */
  split(y) {
    const along = this.rows.map((row) => dot(row, y));
    return { along, outside: this.combine({ along: along.map((c) => -c), outside: y }, () => 1) };
  }

  /** The vector whose parts are multiplied by f(lam) along each PC, and by f(rest) outside them. */
  combine({ along, outside }, f) {
    const result = scaled(outside, f(this.rest));
    this.rows.forEach((row, k) => {
      const c = f(this.lam[k]) * along[k];
      for (let i = 0; i < result.length; i++) result[i] += c * row[i];
    });
    return result;
  }

  /** Multiply the vector y by f(lam) along each PC, and by f(rest) outside them. */
  apply(y, f) {
    return this.combine(this.split(y), f);
  }

  /** The endpoint estimate E[x0 | x] at a level. */
  estimate(x, level) {
    return plus(this.mu, this.apply(plus(x, this.mu, -level.alpha), (lam) => shrink(lam, level)));
  }

  /** Follow the flow exactly from one level to another, in one step. */
  flow(x, from, to = CLEAN) {
    const moved = this.apply(plus(x, this.mu, -from.alpha), (lam) => gain(lam, from, to));
    return plus(moved, this.mu, to.alpha);
  }

  /** States and endpoint estimates at all levels of a run that is at x at level `start`. */
  paint(x, levels, start = 0) {
    const later = levels.slice(start);
    const parts = this.split(plus(x, this.mu, -later[0].alpha));
    const at = (level, times, f) => plus(this.combine(parts, (lam) => f(lam) * gain(lam, later[0], level)), this.mu, times);
    return {
      states: later.map((level) => at(level, level.alpha, () => 1)),
      estimates: later.map((level) => at(level, 1, (lam) => shrink(lam, level))),
    };
  }

  /** The share of all variance that stands in the endpoint estimate at a level. */
  standing(level) {
    const counts = [...this.lam].map((lam) => [lam, 1]).concat([[this.rest, this.mu.length - this.lam.length]]);
    const total = (f) => counts.reduce((sum, [lam, n]) => sum + n * f(lam), 0);
    return total((lam) => lam * emergence(lam, level)) / total((lam) => lam);
  }
}

/** Training levels of a discrete variance-preserving schedule, clean first: alpha^2 is the product of 1 - beta. */
function discrete(betas) {
  let product = 1;
  return betas.map((beta) => {
    product *= 1 - beta;
    return { alpha: Math.sqrt(product), sigma: Math.sqrt(1 - product) };
  });
}

const between = (a, b, n) => Array.from({ length: n }, (_, i) => a + ((b - a) * i) / (n - 1));

export const TRAINED = {
  "vp-linear": discrete(between(1e-4, 0.02, 1000)),
  "scaled-linear": discrete(between(0.00085 ** 0.5, 0.012 ** 0.5, 1000).map((root) => root ** 2)),
};

/** The n + 1 levels of a run, noisy to clean. EDM and flow keep to the noise that vp-linear was trained with. */
export function levels(schedule, n) {
  const steps = Array.from({ length: n }, (_, i) => i / n);
  if (schedule === "edm") {
    const [high, low] = [80 ** (1 / 7), 0.01 ** (1 / 7)];
    return [...between(high, low, n).map((root) => ({ alpha: 1, sigma: root ** 7 })), CLEAN];
  }
  if (schedule === "flow") {
    const top = 0.99;
    return [...steps.map((t) => ({ alpha: 1 - top * (1 - t), sigma: top * (1 - t) })), CLEAN];
  }
  const table = TRAINED[schedule];
  return [...steps.map((t) => table[Math.round(1000 * (1 - t)) - 1]), CLEAN];
}

/** Unit normal noise: the numbers that torch draws on a CPU for this seed (a multiple of 16 of them). */
export function noise(seed, count) {
  const random = mersenne(seed);
  const result = Float64Array.from({ length: count }, () => (random() & 0xffffff) / 2 ** 24);
  for (let block = 0; block < count; block += 16) {
    for (let i = block; i < block + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - result[i]));
      const angle = 2 * Math.PI * result[i + 8];
      result[i] = radius * Math.cos(angle);
      result[i + 8] = radius * Math.sin(angle);
    }
  }
  return result;
}

/** The Mersenne twister MT19937: a function that returns the next 32 random bits. */
function mersenne(seed) {
  const [n, m] = [624, 397];
  const state = new Uint32Array(n);
  state[0] = seed;
  for (let i = 1; i < n; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let at = n;
  return () => {
    if (at === n) {
      for (let i = 0; i < n; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % n] & 0x7fffffff);
        state[i] = state[(i + m) % n] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}
