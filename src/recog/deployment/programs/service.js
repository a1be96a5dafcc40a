// The answers of the page from the network beside it, by ONNX Runtime in this browser.
import * as ort from "../ort/ort.wasm.min.mjs";
import { fit, labels, probabilities } from "../pixels.mjs";

const place = (path) => new URL(path, import.meta.url);
const MAX_THREADS = 4;
let contract;
let session;

async function load() {
  contract = await (await fetch(place("../contract.json"))).json();
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

/** RGBA pixels of an image file, upright, in sRGB, transparency on white. */
async function decode(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

const JPEG = [0xff, 0xd8, 0xff];

async function answer(file) {
  const start = new Uint8Array(await file.slice(0, 3).arrayBuffer());
  const isJpeg = JPEG.every((byte, i) => start[i] === byte);
  const pixels = fit(await decode(file), contract.preprocess, { isJpeg });
  const images = new ort.Tensor("uint8", pixels, [1, ...contract.preprocess.image_size, contract.preprocess.channels]);
  const { logits } = await session.run({ images }, ["logits"]);
  const probs = probabilities(logits.data, contract);
  const found = labels(probs, contract);
  const named = { name: file.name, probs: Object.fromEntries(contract.class_names.map((name, k) => [name, probs[k]])) };
  if (contract.task === "multilabel") return { ...named, labels: found };
  return { ...named, label: found[0], confidence: named.probs[found[0]] };
}

/** The answers for files, in order, each with `error` where there is none. */
export async function classify(model, files) {
  const answers = [];
  for (const file of files) {
    try {
      answers.push(await answer(file));
    } catch {
      answers.push({ name: file.name, error: "This browser cannot read the file as an image." });
    }
  }
  return answers;
}
