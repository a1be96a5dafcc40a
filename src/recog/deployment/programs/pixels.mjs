// From decoded pixels to the network's input, byte for byte as Pillow and recog make it. No dependencies; browsers and Node.

const PRECISION_BITS = 22; // Pillow's fixed-point arithmetic for 8-bit channels

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)))],
  bicubic: [2, cubic],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(signed) {
  const x = Math.abs(signed);
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Of each place of the result: [first place of the source, its weights as whole numbers of 2^-22]. */
function weightsFor(inSize, outSize, interpolation) {
  const scale = inSize / outSize;
  if (interpolation === "nearest") {
    let at = 0.5 * scale; // summed up as Pillow does, whose roundings decide at the borders of pixels
    return Array.from({ length: outSize }, () => {
      const place = [Math.floor(at), [1 << PRECISION_BITS]];
      at += scale;
      return place;
    });
  }
  const [reach, filter] = FILTERS[interpolation];
  const stretch = Math.max(1, scale);
  const support = reach * stretch;
  return Array.from({ length: outSize }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const weights = [];
    let sum = 0;
    for (let x = first; x < last; x++) {
      weights.push(filter((x - centre + 0.5) * (1 / stretch)));
      sum += weights.at(-1);
    }
    return [first, weights.map((w) => Math.trunc((w / sum) * 2 ** PRECISION_BITS + (w < 0 ? -0.5 : 0.5)))];
  });
}

/** One pass along an axis whose neighbours are `step` bytes apart, for `lines` lines that begin where `startOf` tells. */
function pass(source, target, weights, lines, startOf, steps) {
  weights.forEach(([first, list], place) => {
    for (let line = 0; line < lines; line++) {
      const [from, to] = startOf(line);
      let sum = 1 << (PRECISION_BITS - 1);
      for (let k = 0, at = from + first * steps[0]; k < list.length; k++, at += steps[0]) sum += source[at] * list[k];
      target[to + place * steps[1]] = sum >> PRECISION_BITS; // a Uint8ClampedArray keeps it within 0..255
    }
  });
}

/** {data, width, height} scaled to width x height; data has `channels` bytes a pixel. */
export function resize(image, width, height, channels, interpolation) {
  let { data } = image;
  if (image.width !== width) {
    const narrow = new Uint8ClampedArray(width * image.height * channels);
    const rows = (line) => {
      const [row, channel] = [Math.floor(line / channels), line % channels];
      return [row * image.width * channels + channel, row * width * channels + channel];
    };
    pass(data, narrow, weightsFor(image.width, width, interpolation), image.height * channels, rows, [channels, channels]);
    data = narrow;
  }
  if (image.height !== height) {
    const stride = width * channels;
    const low = new Uint8ClampedArray(stride * height);
    pass(data, low, weightsFor(image.height, height, interpolation), stride, (line) => [line, line], [stride, stride]);
    data = low;
  }
  return { data, width, height };
}

/** Half to even, as Python rounds. */
function round(x) {
  const whole = Math.floor(x);
  if (x - whole !== 0.5) return Math.round(x);
  return whole % 2 ? whole + 1 : whole;
}

function scaledSize(image, rules) {
  const [height, width] = rules.image_size.map((size) => Math.floor(size / rules.crop_pct));
  if (rules.crop_mode === "squash") return [width, height];
  if (rules.crop_mode === "center" && width === height) {
    const long = Math.trunc((height * Math.max(image.width, image.height)) / Math.min(image.width, image.height));
    return image.width <= image.height ? [height, long] : [long, height];
  }
  const ratio = (rules.crop_mode === "border" ? Math.max : Math.min)(image.height / height, image.width / width);
  return [image.width, image.height].map((size) => Math.max(1, round(size / ratio)));
}

/** Where a scaled axis begins in the crop; negative where it is longer. */
const offset = (size, crop) => (size < crop ? Math.floor((crop - size) / 2) : -round((size - crop) / 2));

function crop(image, rules) {
  const [height, width] = rules.image_size;
  const { channels } = rules;
  const fill = rules.fill.length && rules.crop_mode === "border" ? rules.fill : new Array(channels).fill(0);
  const [left, top] = [offset(image.width, width), offset(image.height, height)];
  const result = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [row, column] = [y - top, x - left];
      const isInside = row >= 0 && row < image.height && column >= 0 && column < image.width;
      for (let c = 0; c < channels; c++) {
        result[(y * width + x) * channels + c] = isInside ? image.data[(row * image.width + column) * channels + c] : fill[c];
      }
    }
  }
  return result;
}

/** RGBA pixels with `channels` bytes a pixel: RGB, or grey by ITU-R 601 as Pillow rounds it. */
function toChannels({ data, width, height }, channels) {
  const result = new Uint8ClampedArray(width * height * channels);
  for (let i = 0, from = 0; i < width * height; i++, from += 4) {
    const [r, g, b] = [data[from], data[from + 1], data[from + 2]];
    if (channels === 3) result.set([r, g, b], 3 * i);
    else result[i] = (r * 19595 + g * 38470 + b * 7471 + 32768) >> 16;
  }
  return { data: result, width, height };
}

/** How many times a JPEG file of this size is reduced while recog decodes it: 1, 2, 4 or 8. */
export function jpegReduction(width, height, rules) {
  const side = 2 * Math.max(...rules.image_size.map((size) => Math.floor(size / rules.crop_pct)));
  const most = Math.min(Math.floor(width / side), Math.floor(height / side));
  return [8, 4, 2].find((times) => most >= times) ?? 1;
}

/** The mean of each times x times pixels, which is nearly what a JPEG decoder gives that reduces. */
function reduce({ data, width, height }, times, channels) {
  const [w, h] = [Math.ceil(width / times), Math.ceil(height / times)];
  const result = new Uint8ClampedArray(w * h * channels);
  for (let y = 0; y < h; y++) {
    const rows = Math.min(times, height - y * times);
    for (let x = 0; x < w; x++) {
      const columns = Math.min(times, width - x * times);
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let dy = 0; dy < rows; dy++) {
          let at = ((y * times + dy) * width + x * times) * channels + c;
          for (let dx = 0; dx < columns; dx++, at += channels) sum += data[at];
        }
        result[(y * w + x) * channels + c] = sum / (rows * columns);
      }
    }
  }
  return { data: result, width: w, height: h };
}

/** The network's input, uint8 [H, W, C], from RGBA pixels {data, width, height}; `rules` is "preprocess" of contract.json. */
export function fit(image, rules, { isJpeg = false } = {}) {
  let picture = toChannels(image, rules.channels);
  const times = isJpeg ? jpegReduction(image.width, image.height, rules) : 1;
  if (times > 1) picture = reduce(picture, times, rules.channels);
  const [width, height] = scaledSize(picture, rules);
  return crop(resize(picture, width, height, rules.channels, rules.interpolation), rules);
}

/** Calibrated probabilities of one image's logits; `contract` is contract.json. */
export function probabilities(logits, { calibration, task }) {
  const scaled = Array.from(logits, (logit, k) => {
    if (calibration.method === "temperature") return logit / calibration.temperature;
    return calibration.method === "vector" ? logit * calibration.factors[k] + calibration.offsets[k] : logit;
  });
  if (task === "multilabel") return scaled.map((logit) => 1 / (1 + Math.exp(-logit)));
  const most = Math.max(...scaled);
  const exps = scaled.map((logit) => Math.exp(logit - most));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((value) => value / sum);
}

/** The predicted labels of one image. */
export function labels(probs, { class_names: names, task, thresholds }) {
  if (task === "multilabel") return names.filter((_, k) => probs[k] >= thresholds[k]);
  const excess = thresholds.length ? probs.map((prob, k) => prob - thresholds[k]) : probs;
  return [names[excess.indexOf(Math.max(...excess))]];
}
