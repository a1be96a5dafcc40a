// The answers of the page from the network beside it, by ONNX Runtime in this browser.
import * as ort from "../ort/ort.wasm.min.mjs";
import { fit, labels, probabilities } from "../pixels.mjs";
import { coinOf, labelSet, readTensors, unknownScore } from "../trust.mjs";

const place = (path) => new URL(path, import.meta.url);
const MAX_THREADS = 4;
let contract;
let session;
let tensors = {};

async function load() {
  contract = await (await fetch(place("../contract.json"))).json();
  if (contract.unknown?.file) tensors = readTensors(await (await fetch(place(`../${contract.unknown.file}`))).arrayBuffer());
  ort.env.wasm.wasmPaths = place("../ort/").href;
  // several threads need shared memory, which browsers give to isolated pages only
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
  session = await ort.InferenceSession.create(place(`../${contract.file}`).href);
}

/** The one network, as the service lists its models. */
export async function listModels() {
  if (!session) await load();
  const { name, class_names, bundle } = contract;
  const limits = { max_images: 8, max_body_bytes: Infinity };
  return [{ name, version: bundle.digest.slice(0, 12), class_names, is_local: true, ...limits }];
}

/** RGBA pixels of an image file, upright, transparency on white. */
async function decode(file, colorSpaceConversion) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion, imageOrientation: "from-image" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

const JPEG = [0xff, 0xd8, 0xff];
const PROFILES = ["ICC_PROFILE\0", "iCCP", "ICCP"]; // before the pixels of JPEG, PNG and WebP files
const HEAD_BYTES = 1 << 18;
const SRGB_TOLERANCE = 2; // of 255: profiles that mean sRGB differ by less, others by 9 and more

/** The network's input as recog reads it. */
async function read(file) {
  const start = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  const isJpeg = JPEG.every((byte, i) => start[i] === byte);
  return fit(await colours(file, start), contract.preprocess, { isJpeg });
}

/** Its colours: a profile is applied unless it means sRGB, where a browser rounds and recog leaves all as it is. */
async function colours(file, start) {
  const stored = await decode(file, "none");
  const head = new TextDecoder("latin1").decode(start);
  if (!PROFILES.some((name) => head.includes(name))) return stored;
  const converted = await decode(file, "default");
  const isSrgb = stored.data.every((value, i) => Math.abs(value - converted.data[i]) <= SRGB_TOLERANCE);
  return isSrgb ? stored : converted;
}

async function answer(pixels) {
  const images = new ort.Tensor("uint8", pixels, [1, ...contract.preprocess.image_size, contract.preprocess.channels]);
  const { logits, features } = await session.run({ images }, ["logits", "features"]);
  const probs = probabilities(logits.data, contract);
  const found = labels(probs, contract);
  const byName = Object.fromEntries(contract.class_names.map((name, k) => [name, probs[k]]));
  if (contract.task === "multilabel") return { probs: byName, labels: found };
  const made = { probs: byName, label: found[0], confidence: byName[found[0]] };
  if (contract.sets) made.label_set = labelSet(probs, found, coinOf(pixels), contract);
  if (contract.unknown) {
    made.unknown_score = unknownScore(Array.from(logits.data), features.data, contract.unknown, tensors);
    made.is_unknown = made.unknown_score > contract.unknown.threshold;
  }
  return made;
}

/** The answers for files, in order, each with `error` where there is none. */
export async function classify(model, files) {
  const answers = [];
  for (const file of files) {
    let pixels;
    try {
      pixels = await read(file);
    } catch {
      answers.push({ name: file.name, error: "This browser cannot read the file as an image." });
      continue;
    }
    answers.push({ name: file.name, ...(await answer(pixels)) });
  }
  return answers;
}
