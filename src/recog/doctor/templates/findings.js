"use strict";
const table = JSON.parse(document.getElementById("data").textContent);
const [actionColumn, labelColumn, kindColumn, numberColumn] = ["action", "new_label", "finding", "number"].map((name) => table.columns.indexOf(name));
const storageKey = "recog-findings-" + table.key;
const fieldsets = Array.from(document.querySelectorAll("fieldset.mark"));
const proposed = new Map();
table.rows.forEach((row, place) => {
  if (row[actionColumn]) proposed.set(table.images[place], { action: row[actionColumn], label: null });
});
let marks = restore() || new Map(proposed);

function restore() {
  try {
    const saved = JSON.parse(localStorage.getItem(storageKey));
    return saved && new Map(saved);
  } catch {
    return null;
  }
}

function save() {
  try {
    localStorage.setItem(storageKey, JSON.stringify(Array.from(marks)));
  } catch {
    // a browser that keeps nothing for local files; the marks last as long as the page is open
  }
}

function chooser(fieldset, label) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", "New label");
  select.append(new Option("choose a label", ""));
  table.classes.forEach((name, number) => select.append(new Option(name, String(number))));
  select.value = label === null ? "" : String(label);
  select.addEventListener("change", () => {
    mark(Number(fieldset.dataset.image), "relabel", select.value === "" ? null : Number(select.value));
  });
  return select;
}

function suggestedFor(image) {
  const found = fieldsets.find((each) => Number(each.dataset.image) === image && each.dataset.suggested !== undefined);
  return found ? Number(found.dataset.suggested) : null;
}

function mark(image, action, label) {
  marks.set(image, { action, label });
  save();
  show();
}

function show() {
  const focused = document.activeElement;
  for (const fieldset of fieldsets) {
    const decision = marks.get(Number(fieldset.dataset.image));
    for (const input of fieldset.querySelectorAll("input")) input.checked = Boolean(decision) && decision.action === input.value;
    const figure = fieldset.closest("figure");
    figure.dataset.action = decision ? decision.action : "";
    const place = fieldset.querySelector(".class");
    const select = place.querySelector("select");
    if (decision && decision.action === "relabel") {
      if (!select) place.append(chooser(fieldset, decision.label));
      else if (select !== focused) select.value = decision.label === null ? "" : String(decision.label);
    } else if (select) select.remove();
  }
  const count = (action) => Array.from(marks.values()).filter((each) => each.action === action).length;
  const open = Array.from(marks.values()).filter((each) => each.action === "relabel" && each.label === null).length;
  const parts = ["exclude", "relabel", "keep"].filter(count).map((action) => `${count(action)} ${action}`);
  const missing = open ? `; ${open} to relabel without a new label` : "";
  document.getElementById("status").textContent = marks.size ? `Marked: ${parts.join(", ")}${missing}` : "Nothing is marked yet.";
  document.getElementById("download").disabled = !marks.size || open > 0;
  document.getElementById("clear").disabled = !marks.size;
  document.getElementById("next").hidden = !(count("exclude") || count("relabel"));
}

function cell(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const lines = table.rows.map((row, place) => {
    const decision = marks.get(table.images[place]);
    const cells = row.slice();
    cells[actionColumn] = decision ? decision.action : "";
    cells[labelColumn] = decision && decision.label !== null ? table.cells[decision.label] : "";
    return cells;
  });
  return [table.columns, ...lines].map((cells) => cells.map(cell).join(",") + "\r\n").join("");
}

for (const fieldset of fieldsets) {
  fieldset.addEventListener("change", (event) => {
    if (event.target.type !== "radio") return;
    const image = Number(fieldset.dataset.image);
    mark(image, event.target.value, event.target.value === "relabel" ? suggestedFor(image) : null);
  });
}

for (const button of document.querySelectorAll("button.bulk")) {
  button.addEventListener("click", () => {
    for (const fieldset of button.closest("section").querySelectorAll("fieldset[data-suggested]")) {
      const image = Number(fieldset.dataset.image);
      if (!marks.has(image)) marks.set(image, { action: "relabel", label: Number(fieldset.dataset.suggested) });
    }
    save();
    show();
  });
}

// of each group that is shown, hidden images included, the first one stays that is not excluded already
for (const button of document.querySelectorAll("button.thin")) {
  button.addEventListener("click", () => {
    const groups = new Map();
    table.rows.forEach((row, place) => {
      if (row[kindColumn] !== button.dataset.kind) return;
      const group = groups.get(row[numberColumn]) || [];
      groups.set(row[numberColumn], group.concat(table.images[place]));
    });
    for (const group of Array.from(groups.values()).slice(0, Number(button.dataset.shown))) {
      const stays = (image) => marks.has(image) && marks.get(image).action !== "exclude";
      const open = group.filter((image) => !marks.has(image));
      for (const image of group.some(stays) ? open : open.slice(1)) marks.set(image, { action: "exclude", label: null });
    }
    save();
    show();
  });
}

document.getElementById("clear").addEventListener("click", () => {
  marks = new Map();
  save();
  show();
});

document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" }));
  link.download = "findings-marked.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

document.documentElement.classList.add("scripted");
show();
