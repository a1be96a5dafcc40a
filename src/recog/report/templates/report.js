"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const island = document.getElementById("gallery");
  const gallery = island ? JSON.parse(island.textContent) : { cells: {}, images: {}, classes: [] };
  for (const image of all("img[data-name]")) gallery.images[image.dataset.name] = image.src;
  const viewer = document.getElementById("viewer");
  const list = document.getElementById("viewer-images");

  function element(tag, classes, text) {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function tile([name, confidence], predicted) {
    const item = element("li");
    const figure = element("figure");
    const uri = gallery.images[name];
    if (uri) {
      const image = element("img", uri.startsWith("data:image/png") ? "pixels" : "");
      image.src = uri;
      image.alt = name;
      figure.append(image);
    }
    const caption = element("figcaption");
    const line = element("span", "line predicted");
    line.append(element("bdi", "", predicted), element("span", "nowrap", confidence));
    const file = element("span", "file");
    const isolated = element("bdi", "", name);
    isolated.dir = "ltr";
    file.append(isolated);
    caption.append(line, file);
    figure.append(caption);
    item.append(figure);
    return item;
  }

  function show(cell) {
    const found = gallery.cells[cell];
    if (!found) return;
    const [truth, predicted] = cell.split(",").map((k) => gallery.classes[k]);
    document.getElementById("viewer-title").textContent =
      truth === predicted ? `${truth}, predicted correctly` : `${truth} predicted as ${predicted}`;
    document.getElementById("viewer-text").textContent =
      found.images.length < found.count
        ? `${found.images.length} of ${found.count} images, ${truth === predicted ? "the least confident" : "the most confident"} first.`
        : `${found.count} ${found.count === 1 ? "image" : "images"}.`;
    list.replaceChildren(...found.images.map((image) => tile(image, predicted)));
    viewer.showModal();
  }

  for (const button of all("[data-cell]")) button.addEventListener("click", () => show(button.dataset.cell));
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());

  for (const picture of all("svg[data-matrix]")) {
    picture.addEventListener("click", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      show(`${Math.floor(point.y)},${Math.floor(point.x)}`);
    });
  }

  const key = (row, column) => {
    const text = row.cells[column].firstChild ? row.cells[column].firstChild.textContent.trim() : "";
    const number = parseFloat(text.replace(/[,<>%]/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };

  for (const button of all("table.sortable button.sort")) {
    const header = button.closest("th");
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const table = header.closest("table");
      const column = header.cellIndex;
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
      table.tBodies[0].append(...rows);
      for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    });
  }

  const folds = all("details.section");
  const toggle = document.querySelector(".fold-all");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
    toggle.textContent = open ? "Fold all" : "Unfold all";
  });
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = folds.filter((fold) => !fold.open);
    for (const fold of folded) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of folded) fold.open = false;
  });

  for (const term of all(".term[aria-describedby]")) {
    const tip = document.getElementById(term.getAttribute("aria-describedby"));
    const place = () => {
      if (innerWidth < 700) return;
      const box = term.getBoundingClientRect();
      tip.style.right = "auto";
      tip.style.bottom = "auto";
      tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - 440))}px`;
      tip.style.top = `${box.bottom + 6}px`;
    };
    term.addEventListener("mouseenter", place);
    term.addEventListener("focus", place);
  }
})();
