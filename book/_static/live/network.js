// Trained networks in the browser: onnxruntime-web, the solver, the tokenizer. Nothing here knows about the page.

import { TRAINED, size } from "./theory.js";

const RUNTIME = new URL("../ort/", import.meta.url);
let loading;

/** Fetch a file whole; `progress` is called with the number of bytes of each piece. */
async function download(url, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} was not found`);
  const pieces = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    pieces.push(part.value);
    progress(part.value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

function script(url) {
  return new Promise((done, failed) => {
    const node = Object.assign(document.createElement("script"), { src: url, onload: done });
    node.onerror = () => failed(new Error("onnxruntime-web was not found"));
    document.head.append(node);
  });
}

/** Load onnxruntime-web from this site, once. It computes in a worker, so that the page never stands still. */
function runtime(progress) {
  const start = async () => {
    const wasm = download(new URL("ort-wasm-simd-threaded.wasm", RUNTIME), progress);
    await script(new URL("ort.wasm.min.js", RUNTIME));
    // One thread: more of them need headers that a plain file server does not send.
    const settings = { wasmPaths: RUNTIME.href, wasmBinary: await wasm, numThreads: 1, proxy: true };
    Object.assign(window.ort.env.wasm, settings);
    return window.ort;
  };
  loading ??= start().catch((error) => {
    loading = undefined; // so that it can be tried again
    throw error;
  });
  return loading;
}

/** One ONNX file: call it with arrays by name, as [array, shape], and get the array of its only output. */
async function load(url, progress) {
  const [ort, file] = await Promise.all([runtime(progress), download(url, progress)]);
  const session = await ort.InferenceSession.create(file);
  const kinds = { Float32Array: "float32", BigInt64Array: "int64" };
  return async (inputs) => {
    const tensor = ([data, shape]) => new ort.Tensor(kinds[data.constructor.name], data.slice(), shape);
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, tensor(value)]));
    return (await session.run(feeds)).y.data;
  };
}

/** How many bytes the networks of a model still have to fetch. */
export function cost(facts) {
  return Object.values(facts.networks).reduce((sum, { bytes }) => sum + bytes, loading ? 0 : facts.runtime);
}

/** All networks of a model, by name; `facts` is what tools/live.py wrote, `progress` hears which share has come. */
export async function loadAll(facts, base, progress) {
  const whole = cost(facts);
  let come = 0;
  const more = (bytes) => progress(Math.min(1, (come += bytes) / whole));
  const parts = Object.entries(facts.networks).map(async ([name, { file }]) => [name, await load(new URL(file, base), more)]);
  return Object.fromEntries(await Promise.all(parts));
}

/** The time a network is asked about a level: the index of its training level, between two of them by log-SNR. */
export function clock({ alpha, sigma }, schedule) {
  const logs = TRAINED[schedule].map((level) => Math.log(level.sigma / level.alpha));
  const ratio = Math.log(sigma / alpha);
  const i = Math.min(logs.length - 2, Math.max(0, logs.findIndex((value) => value > ratio) - 1));
  const last = ratio >= logs[logs.length - 1];
  return last ? logs.length - 1 : Math.max(0, i + (ratio - logs[i]) / (logs[i + 1] - logs[i]));
}

/**
 * The endpoint estimate of a network that predicts v: x0 = alpha x - sigma v, in coordinates alpha^2 + sigma^2 = 1.
 * `conditions` are one or two arrays for the network's third input, `name`; with two, (without, with), their answers
 * are combined as without + guidance (with - without).
 */
export function denoiser(unet, facts, name, conditions, shape, guidance = 1) {
  return async (x, level) => {
    const [c, n] = [1 / size(level), conditions.length];
    const one = Float32Array.from(x, (value) => c * value);
    const batch = new Float32Array(n * one.length);
    const joined = new conditions[0].constructor(n * conditions[0].length);
    for (let b = 0; b < n; b++) {
      batch.set(one, b * one.length);
      joined.set(conditions[b], b * conditions[0].length);
    }
    const t = new Float32Array(n).fill(clock(level, facts.schedule));
    const v = await unet({ x: [batch, [n, ...facts.shape]], t: [t, [n]], [name]: [joined, [n, ...shape]] });
    return Float64Array.from(one, (value, i) => {
      const answer = n === 1 ? v[i] : v[i] + guidance * (v[i + one.length] - v[i]);
      return c * level.alpha * value - c * level.sigma * answer;
    });
  };
}

/** Walk down the levels from x by DPM-Solver++(2M), one network call a step; yield state and estimate at each. */
export async function* paint(denoise, x, levels) {
  const logSNR = ({ alpha, sigma }) => Math.log(alpha / sigma);
  let last, hLast;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [here, there] = [levels[i], levels[i + 1]];
    const estimate = await denoise(x, here);
    yield { state: x, estimate };
    const h = logSNR(there) - logSNR(here);
    const second = last && Number.isFinite(h);
    const best = second ? estimate.map((value, k) => value + (h / (2 * hLast)) * (value - last[k])) : estimate;
    x = best.map((value, k) => there.alpha * value + there.sigma * ((x[k] - here.alpha * value) / here.sigma));
    [last, hLast] = [estimate, h];
  }
  yield { state: x, estimate: x };
}

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

/** The byte-pair tokenizer of CLIP: words to letters, and the pairs merged that are first in the list, until none is. */
export class Tokenizer {
  constructor({ vocabulary, merges, limit }) {
    Object.assign(this, { vocabulary, limit, rank: new Map(merges.map((pair, i) => [pair, i])) });
    // Bytes that are no printable characters have stand-ins from 256 on.
    const printable = (b) => (b > 32 && b < 127) || (b > 160 && b < 173) || b > 173;
    let next = 256;
    this.letters = Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
  }

  words(text) {
    return text.normalize("NFC").toLowerCase().match(WORDS) ?? [];
  }

  /** The tokens of one word. One that the captions of training had is a single token. */
  pieces(word) {
    let parts = [...new TextEncoder().encode(word)].map((byte) => this.letters[byte]);
    parts[parts.length - 1] += "</w>";
    for (;;) {
      const ranks = parts.slice(1).map((part, i) => this.rank.get(`${parts[i]} ${part}`) ?? Infinity);
      const best = Math.min(...ranks);
      if (best === Infinity) return parts;
      const merged = [];
      for (let i = 0; i < parts.length; i++) {
        if (ranks[i] === best) merged.push(parts[i] + parts[++i]);
        else merged.push(parts[i]);
      }
      parts = merged;
    }
  }

  /** The numbers of a text's tokens between its start and end marks, filled up to the limit; null if it is too long. */
  encode(text) {
    const [start, end] = ["<|startoftext|>", "<|endoftext|>"].map((mark) => this.vocabulary[mark]);
    const tokens = this.words(text).flatMap((word) => this.pieces(word)).map((part) => this.vocabulary[part]);
    if (tokens.length + 2 > this.limit) return null;
    const padded = [start, ...tokens, ...Array(this.limit - tokens.length - 1).fill(end)];
    return BigInt64Array.from(padded, BigInt);
  }

  /** Words of a text that were in no caption of training. */
  unknown(text) {
    return [...new Set(this.words(text))].filter((word) => this.pieces(word).length > 1);
  }
}
