// Prediction sets and 'unknown' of one image, as recog's calibration gives them. No dependencies; browsers and Node.

/** The tensors of a safetensors file: {name: {data: Float32Array, shape}}. */
export function readTensors(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__, ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const read = ({ dtype, shape, data_offsets: [from, to] }) => {
    const bytes = buffer.slice(start + from, start + to);
    const data = dtype === "F16" ? Float32Array.from(new Uint16Array(bytes), half) : new Float32Array(bytes);
    return { data, shape };
  };
  return Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, read(entry)]));
}

/** A finite 16-bit float from its bits. */
function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** A number in [0, 1) from an image's bytes: Philox4x32-10 of their CRC-32, under the CRC-32 of "prediction sets". */
export function coinOf(pixels) {
  const low = 0xffffffffn;
  let words = [crc32(pixels), 0, crc32(new TextEncoder().encode("prediction sets")), 0].map(BigInt);
  let [key0, key1] = [0n, 0n];
  for (let round = 0; round < 10; round++) {
    const [product0, product1] = [words[0] * 0xd2511f53n, words[2] * 0xcd9e8d57n];
    words = [(product1 >> 32n) ^ words[1] ^ key0, product1 & low, (product0 >> 32n) ^ words[3] ^ key1, product0 & low];
    [key0, key1] = [(key0 + 0x9e3779b9n) & low, (key1 + 0xbb67ae85n) & low];
  }
  return Number(words[0]) * 2 ** -32;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ CRC_TABLE[(value ^ byte) & 255];
  return (value ^ 0xffffffff) >>> 0;
}

const byProbability = (probs) => probs.map((_, k) => k).sort((a, b) => probs[b] - probs[a] || a - b);

/** The classes of the prediction set, the most probable first; `predicted` are the labels, which a threshold may have chosen. */
export function labelSet(probs, predicted, coin, { sets, class_names: names, thresholds }) {
  const order = byProbability(probs);
  const scores = [];
  let sum = 0;
  order.forEach((k, place) => {
    sum += probs[k];
    const beyond = Math.max(0, place + 1 - sets.free_classes);
    scores[k] = sets.method === "lac" ? 1 - probs[k] : sum - coin * probs[k] + sets.penalty * beyond;
  });
  const quantile = (k) => (sets.class_quantiles.length ? sets.class_quantiles[k] : sets.quantile) ?? Infinity;
  const inside = order.filter((k) => scores[k] <= quantile(k));
  const chosen = new Set((inside.length ? inside : order.slice(0, 1)).map((k) => names[k]));
  if (thresholds.length) predicted.forEach((name) => chosen.add(name));
  return order.map((k) => names[k]).filter((name) => chosen.has(name));
}

function energy(logits) {
  const most = Math.max(...logits);
  return -(most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0)));
}

function unit(values) {
  const length = Math.hypot(...values) || 1;
  return values.map((value) => Math.fround(value / length));
}

/** The product of a row [D] and a matrix [D, N] in rows: [N]. */
function times(row, { data, shape: [, columns] }) {
  const result = new Float64Array(columns);
  row.forEach((value, d) => {
    for (let n = 0; n < columns; n++) result[n] += value * data[d * columns + n];
  });
  return result;
}

function* rowsOf({ data, shape: [rows, columns] }) {
  for (let i = 0; i < rows; i++) yield data.subarray(i * columns, (i + 1) * columns);
}

function mahalanobis(point, tensors) {
  const white = times(point, tensors.unit_whitening);
  const squares = [...rowsOf(tensors.unit_centres)].map((centre) => centre.reduce((sum, c, d) => sum + (white[d] - c) ** 2, 0));
  return Math.sqrt(Math.min(...squares));
}

function neighbour(point, tensors, rank) {
  const likeness = [...rowsOf(tensors.bank)].map((row) => row.reduce((sum, value, d) => sum + value * point[d], 0));
  return Math.sqrt(Math.max(0, 2 - 2 * likeness.sort((a, b) => b - a)[rank - 1]));
}

function viewOf(features, { view_scale: scale, view_shift: shift }) {
  if (!scale) return features;
  return features.slice(-scale.data.length).map((value, d) => value * scale.data[d] + shift.data[d]);
}

/** How unlike the training images one is; above `rule.threshold` it is unknown. `tensors` are those of features.safetensors. */
export function unknownScore(logits, features, rule, tensors) {
  if (rule.method === "max_softmax") return -Math.exp(Math.max(...logits) + energy(logits));
  if (rule.method === "energy") return energy(logits);
  const point = unit(Array.from(viewOf(features, tensors)));
  if (rule.method === "knn") return neighbour(point, tensors, rule.num_neighbours);
  const distance = mahalanobis(point, tensors);
  return rule.method === "mahalanobis" ? distance : energy(logits) + rule.weight * distance;
}
