// Arrays of numbers as pictures on canvases. Nothing here knows about the page.

import { dot } from "./theory.js";

/** The pixels of values in [0, 1], one or three channels one after the other. */
function pixels(values, [channels, height, width]) {
  const image = new ImageData(width, height);
  const n = width * height;
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * values[channels === 1 ? i : c * n + i];
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Fill a canvas with one picture. */
export function fill(canvas, { values, shape }) {
  const [, height, width] = shape;
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(pixels(values, shape), 0, 0);
}

/** Put one picture of a row of `count` into a canvas; without a picture, its place is emptied. */
export function put(canvas, picture, index, count) {
  const [, height, width] = picture?.shape ?? [1, canvas.height, canvas.width / count];
  if (canvas.width !== count * width) Object.assign(canvas, { width: count * width, height });
  const context = canvas.getContext("2d");
  if (picture) context.putImageData(pixels(picture.values, picture.shape), index * width, 0);
  else context.clearRect(index * width, 0, width, height);
}

/**
 * A linear stand-in for a decoder: each cell of a latent, with its eight neighbours, gives a square of the picture.
 * `weights` are those of tools/live.py: for each pixel of the square and each channel the nine cells of each channel
 * of the latent, and a constant.
 */
export function linear(weights, [channels, height, width], factor) {
  const [inputs, outputs, H, W] = [9 * channels + 1, 3 * factor ** 2, height * factor, width * factor];
  const inside = (value, most) => Math.min(most - 1, Math.max(0, value));
  // Where the k-th number of a square belongs, if the square were the first of the picture.
  const places = Array.from({ length: outputs }, (_, k) => {
    const [c, row, column] = [Math.floor(k / factor ** 2), Math.floor(k / factor) % factor, k % factor];
    return (c * H + row) * W + column;
  });
  const rows = places.map((_, k) => Float64Array.from(weights.subarray(k * inputs, (k + 1) * inputs)));
  return (latent) => {
    const values = new Float64Array(3 * H * W);
    const seen = new Float64Array(inputs).fill(1);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let k = 0; k < inputs - 1; k++) {
          const [channel, row, column] = [Math.floor(k / 9), Math.floor(k / 3) % 3, k % 3];
          seen[k] = latent[(channel * height + inside(y + row - 1, height)) * width + inside(x + column - 1, width)];
        }
        for (let out = 0; out < outputs; out++) {
          values[places[out] + (y * W + x) * factor] = dot(rows[out], seen);
        }
      }
    }
    return { values, shape: [3, H, W] };
  };
}
