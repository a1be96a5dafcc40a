import { classify, listModels } from "./service.js";

const MAX_CLASSES = 5;
const MAX_CARDS = 500; // of a large folder, the first ones; the counts are of all
const CSV_FORMULA = /^[=+\-@\t\r]/;

const byId = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)} %`;

let models = [];
let rows = [];
let total = 0;
let generation = 0; // grows with each clearing, so that answers on their way are dropped

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text; // never as HTML: class and file names come from others
  return made;
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

const current = () => models.find((model) => model.name === byId("model").value) ?? models[0];

function describeModel() {
  const model = current();
  document.title = `${model.name} · recog`;
  byId("model-facts").textContent = `${model.name}: ${model.class_names.length} classes, version ${model.version}`;
  byId("privacy").textContent = model.is_local
    ? "Images stay in this browser."
    : "Images are sent to this service only, and are not kept.";
  byId("snippets").hidden = model.is_local === true;
  byId("explain-choice").hidden = !model.has_maps;
  const report = byId("report");
  report.hidden = !model.has_report;
  report.href = `report?model=${encodeURIComponent(model.name)}`;
  const address = new URL(`predict?model=${encodeURIComponent(model.name)}`, location.href).href;
  byId("curl").textContent = `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' '${address}'`;
  byId("python").textContent = [
    "import json, urllib.request",
    "",
    'image = open("photo.jpg", "rb").read()',
    "request = urllib.request.Request(",
    `    "${address}",`,
    '    image, {"Content-Type": "image/jpeg"}',
    ")",
    "answer = json.load(urllib.request.urlopen(request))",
    'print(answer["predictions"][0])',
  ].join("\n");
}

// Files of up to what one request may hold; a file that is alone too large is refused by the service itself.
function* requests(files, model) {
  let batch = [];
  let bytes = 0;
  for (const file of files) {
    if (batch.length && (batch.length === model.max_images || bytes + file.size > 0.9 * model.max_body_bytes)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) yield batch;
}

async function take(files) {
  const images = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
  const numOthers = files.length - images.length;
  say(numOthers ? `${numOthers} of ${files.length} files are no images and were left out.` : "");
  await loading;
  if (!images.length || !models.length) return;
  const model = current();
  const mine = generation;
  total += images.length;
  byId("overview").hidden = false;
  showOverview();
  for (const batch of requests(images, model)) {
    let answers;
    try {
      answers = await classify(model, batch, { explain: model.has_maps === true && byId("explain").checked });
    } catch {
      say("The service cannot be reached.");
      answers = batch.map((file) => ({ name: file.name, error: "The service cannot be reached." }));
    }
    if (mine !== generation) return;
    answers.forEach((answer, place) => show(answer, batch[place], model));
    showOverview();
  }
}

const labelsOf = (answer) => answer.labels ?? [answer.label];

function show(answer, file, model) {
  const name = file.webkitRelativePath || file.name;
  rows.push({ name, answer });
  if (rows.length > MAX_CARDS) return;
  const card = byId("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.addEventListener("error", () => image.removeAttribute("src"), { once: true });
  card.querySelector(".name").textContent = name;
  if (answer.error) {
    card.querySelector(".error").textContent = answer.error;
    card.querySelector(".error").hidden = false;
    card.querySelector(".set").hidden = true;
  } else {
    fill(card, answer);
  }
  byId("results").prepend(card);
  if (answer.maps) offerMaps(card, answer, model);
}

// A button for each class that has a map, and one for the image alone.
function offerMaps(card, answer, model) {
  const image = card.querySelector("img");
  const group = card.querySelector(".maps");
  const choices = [...Object.entries(answer.maps), ["image alone", null]];
  const select = (number) => {
    [...group.querySelectorAll("button")].forEach((button, i) => button.setAttribute("aria-pressed", i === number));
    card.classList.toggle("has-map", choices[number][1] !== null);
    drawMap(card, choices[number][1], model.crop);
  };
  group.append("counts for", ...choices.map(([label], i) => {
    const button = element("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => select(i));
    return button;
  }));
  group.hidden = false;
  if (image.complete && image.naturalWidth) select(0);
  else image.addEventListener("load", () => select(0), { once: true });
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

// The map over the part of the image that the network sees, in colours relative to its maximum.
function drawMap(card, map, crop) {
  const canvas = card.querySelector("canvas");
  canvas.hidden = map === null;
  if (map === null) return;
  [canvas.width, canvas.height] = [map[0].length, map.length];
  const most = Math.max(...map.flat()) || 1;
  const pixels = map.flat().flatMap((value) => {
    const at = (value / most) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
    const colour = VIRIDIS[low].map((from, c) => Math.round(from + (at - low) * (VIRIDIS[low + 1][c] - from)));
    return [...colour, Math.round(255 * (0.25 + (0.5 * value) / most))];
  });
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), canvas.width, canvas.height), 0, 0);
  const image = card.querySelector("img");
  const seen = partSeen(image.naturalWidth, image.naturalHeight, crop);
  const longer = Math.max(image.naturalWidth, image.naturalHeight); // the picture is a square that contains the image
  const [width, height] = [(100 * image.naturalWidth * seen[0]) / longer, (100 * image.naturalHeight * seen[1]) / longer];
  Object.assign(canvas.style, {
    width: `${width}%`, height: `${height}%`, left: `${(100 - width) / 2}%`, top: `${(100 - height) / 2}%`,
  });
}

// Width and height of the part in the middle that the network sees, as shares of the image; above 1 with a border.
function partSeen(width, height, crop) {
  if (crop.mode === "squash") return [crop.pct, crop.pct];
  const scales = [crop.width / crop.pct / width, crop.height / crop.pct / height];
  const scale = crop.mode === "border" ? Math.min(...scales) : Math.max(...scales);
  return [crop.width / (scale * width), crop.height / (scale * height)];
}

function fill(card, answer) {
  const label = card.querySelector(".label");
  label.textContent = labelsOf(answer).join(", ") || "none of the labels";
  if (answer.confidence !== undefined) label.append(" ", element("span", "prob", percent(answer.confidence)));
  card.classList.toggle("is-unknown", answer.is_unknown === true);
  card.querySelector(".unknown").hidden = answer.is_unknown !== true;
  const classes = answer.top
    ? answer.top.map((row) => [row.label, row.prob])
    : Object.entries(answer.probs).sort((a, b) => b[1] - a[1]);
  for (const [name, prob] of classes.slice(0, MAX_CLASSES)) {
    const row = element("li");
    const bar = element("progress");
    bar.max = 1;
    bar.value = prob;
    bar.setAttribute("aria-label", `${name}: ${percent(prob)}`);
    const text = element("span", "class", name);
    text.title = name;
    row.append(text, bar, element("span", "prob", percent(prob)));
    card.querySelector(".classes").append(row);
  }
  const set = card.querySelector(".set");
  set.hidden = !answer.label_set || answer.label_set.length < 2;
  if (!set.hidden) set.textContent = `It may be any of: ${answer.label_set.join(", ")}`;
}

function showOverview() {
  const counts = new Map();
  const add = (key) => counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const { answer } of rows) {
    if (answer.error) add("not readable");
    else if (answer.is_unknown) add("unknown");
    else labelsOf(answer).forEach(add);
  }
  const more = rows.length > MAX_CARDS ? `; the first ${MAX_CARDS} are shown` : "";
  byId("progress").textContent =
    rows.length < total ? `${rows.length} of ${total} images` : `${total} image${total === 1 ? "" : "s"}${more}`;
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  byId("counts").replaceChildren(...sorted.map(([label, count]) => element("li", "", `${label}: ${count}`)));
}

function clear() {
  generation += 1;
  [rows, total] = [[], 0];
  byId("results").replaceChildren();
  byId("overview").hidden = true;
  say("");
}

function csv() {
  const cell = (value) => {
    const text = CSV_FORMULA.test(value) ? `'${value}` : String(value); // a spreadsheet would run it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map(({ name, answer }) =>
    [name, answer.error ? "" : labelsOf(answer).join("|"), answer.confidence ?? "", answer.is_unknown ?? "", answer.error ?? ""]
      .map(cell)
      .join(","),
  );
  return ["file,label,confidence,is_unknown,error", ...lines].join("\n");
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", "", text); // without https the clipboard of the browser is closed
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const entries = await new Promise((done, fail) => reader.readEntries(done, fail)); // some hundred at a time
    if (!entries.length) return found;
    for (const inner of entries) found.push(...(await filesOf(inner)));
  }
}

async function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...data.files];
  return (await Promise.all(entries.map(filesOf))).flat();
}

let stream = null;

async function openCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    say("The camera cannot be used: it needs a permission, and https or this machine's own address.");
    return;
  }
  byId("video").srcObject = stream;
  byId("camera").hidden = false;
  byId("capture").focus();
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("camera").hidden = true;
  byId("use-camera").focus();
}

function capture() {
  const video = byId("video");
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => take([new File([blob], "camera.jpg", { type: "image/jpeg" })]), "image/jpeg", 0.95);
}

function listen() {
  const drop = byId("drop");
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(await dropped(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take([...event.clipboardData.files]);
  });
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      take([...byId(input).files]);
      byId(input).value = "";
    });
  }
  byId("use-camera").addEventListener("click", openCamera);
  byId("use-camera").hidden = !navigator.mediaDevices?.getUserMedia;
  byId("capture").addEventListener("click", capture);
  byId("close-camera").addEventListener("click", closeCamera);
  byId("clear").addEventListener("click", clear);
  byId("copy-csv").addEventListener("click", (event) => copy(csv(), event.currentTarget));
  byId("model").addEventListener("change", describeModel);
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(byId(button.dataset.copy).textContent, button));
  }
}

async function load() {
  try {
    models = await listModels();
  } catch (error) {
    say(`The models cannot be listed: ${error.message}`);
    return;
  }
  byId("model").replaceChildren(...models.map((model) => element("option", "", model.name)));
  byId("model-choice").hidden = models.length < 2;
  describeModel();
}

listen();
const loading = load(); // images may be dropped before it is done
