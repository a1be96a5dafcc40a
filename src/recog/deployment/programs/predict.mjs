// Classify images with model.onnx by Node: npm install onnxruntime-node sharp && node predict.mjs photo.jpg ...
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { fit, labels, probabilities } from "./pixels.mjs";

const here = (name) => new URL(name, import.meta.url);
const contract = JSON.parse(readFileSync(here("contract.json"), "utf8"));
const session = await ort.InferenceSession.create(readFileSync(here(contract.file)));
const { image_size: size, channels } = contract.preprocess;

for (const file of process.argv.slice(2)) {
  const encoded = sharp(file);
  const isJpeg = (await encoded.metadata()).format === "jpeg";
  const { data, info } = await encoded.rotate().flatten({ background: "white" }).toColourspace("srgb").ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  const pixels = fit({ data, width: info.width, height: info.height }, contract.preprocess, { isJpeg });
  const images = new ort.Tensor("uint8", pixels, [1, ...size, channels]);
  const probs = probabilities((await session.run({ images }, ["logits"])).logits.data, contract);
  const named = Object.fromEntries(contract.class_names.map((name, k) => [name, probs[k]]));
  console.log(file, JSON.stringify({ labels: labels(probs, contract), probs: named }));
}
