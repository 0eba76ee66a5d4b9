"use strict";
// The page's own behaviour: thumbnails, the map's hover, labels, lists, saving. Bokeh draws.
(() => {
  const PICK_PX = 14, LISTED = 400;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const unpacked = (text) => new Int32Array(bytesOf(text).buffer);
  const codes = unpacked(data.codes), near = unpacked(data.near), cells = unpacked(data.cells);
  const isOn = new Array(data.labels.length).fill(true);
  const views = {};
  let hovered = -1;

  function bytesOf(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function made(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Thumbnails -------------------------------------------------------------------------------

  const addresses = new Map();

  function sheetAddress(name) {
    if (!addresses.has(name)) {
      const sheet = byId(`sheet-${name}`);
      const blob = new Blob([bytesOf(sheet.textContent)], { type: "image/webp" });
      sheet.remove();
      addresses.set(name, URL.createObjectURL(blob));
    }
    return addresses.get(name);
  }

  function refOf(row) {
    const large = Object.hasOwn(data.large, data.paths[row]) ? data.large[data.paths[row]] : "";
    return large || (cells[row] >= 0 ? `a${cells[row]}` : "");
  }

  function showThumbnail(element, ref, side) {
    element.classList.toggle("none", !ref);
    element.style.backgroundImage = "";
    if (!ref) return;
    const columns = data.columns[ref[0]], perSheet = columns ** 2;
    const cell = Number(ref.slice(1)), place = cell % perSheet;
    const address = sheetAddress(ref[0] + Math.floor(cell / perSheet));
    element.style.backgroundImage = `url(${address})`;
    element.style.backgroundSize = `${columns * side}px auto`;
    const x = (place % columns) * side, y = Math.floor(place / columns) * side;
    element.style.backgroundPosition = `-${x}px -${y}px`;
  }

  function picture(row, note = "") {
    const thumb = made("i", { className: "thumb" });
    showThumbnail(thumb, refOf(row), 96);
    const text = made("span", {}, made("bdi", { textContent: data.labels[codes[row]] }));
    text.append(made("br"), made("small", { textContent: note || data.paths[row] }));
    const button = made("button", { type: "button", className: "pic", title: data.paths[row] });
    button.dataset.row = row;
    button.append(thumb, text);
    return button;
  }

  // The pictures that are in the page from the start.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      showThumbnail(entry.target, entry.target.dataset.ref, entry.target.clientWidth);
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll("i[data-ref]").forEach((thumb) => seen.observe(thumb));

  // Panel: nearest pictures, the selection, what was found -----------------------------------

  function showPanel(title, rows, notes = []) {
    const copy = made("button", { type: "button", textContent: "Copy paths" });
    copy.onclick = () => copyText(rows.map((row) => data.paths[row]).join("\n"), copy);
    const save = made("button", { type: "button", textContent: "Save as CSV" });
    save.onclick = () => saveBlob(new Blob([asCsv(rows)], { type: "text/csv" }), "pictures.csv");
    const close = made("button", { type: "button", textContent: "Close" });
    close.onclick = clearSelection;
    const bar = made("div", { className: "bar" }, made("b", { textContent: title }), copy, save, close);
    const pictures = rows.slice(0, LISTED).map((row, place) => picture(row, notes[place]));
    const list = made("div", { className: "pics" }, ...pictures);
    byId("panel").replaceChildren(bar, list);
    if (rows.length > LISTED) {
      const text = `The first ${LISTED} are shown; copy and save take all.`;
      byId("panel").append(made("small", { textContent: text }));
    }
  }

  function showNearest(row) {
    const start = row * data.nearest;
    const others = Array.from(near.slice(start, start + data.nearest));
    const notes = ["this one", ...others.map((_, place) => `nearest ${place + 1}`)];
    showPanel(`Nearest to ${data.paths[row]}`, [row, ...others], notes);
  }

  function clearSelection() {
    byId("panel").replaceChildren();
    if (points) points.selected.indices = [];
  }

  function asCsv(rows) {
    // A spreadsheet would run a cell that begins so as a formula.
    const cell = (text) => `"${(/^[=+@\t\r-]/.test(text) ? "'" : "") + text.replaceAll('"', '""')}"`;
    const lines = rows.map((row) => [data.paths[row], data.labels[codes[row]]].map(cell).join(","));
    return ["path,label", ...lines, ""].join("\r\n");
  }

  async function copyText(text, button) {
    const area = made("textarea", { value: text });
    document.body.append(area);
    area.select();
    // The clipboard of a page from a file may be closed to everything but this.
    const done = document.execCommand("copy");
    area.remove();
    button.textContent = done ? "Copied" : "Not copied";
  }

  function saveBlob(blob, name) {
    const link = made("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest?.(".pic");
    if (target && Number(target.dataset.row) >= 0 && byId("panel")) {
      showNearest(Number(target.dataset.row));
      byId("panel").scrollIntoView({ block: "nearest" });
    }
  });

  // The map ----------------------------------------------------------------------------------

  let points = null, shown = null, dots = null;

  async function startMap() {
    const view = await embedded("map");
    if (!view) return;
    const find = (name) => view.model.document.get_model_by_name(name);
    [points, shown, dots] = ["points", "shown", "dots"].map(find);
    points.selected.properties.indices.change.connect(() => {
      const rows = Array.from(points.selected.indices);
      if (rows.length) showPanel(`${rows.length} pictures in the selection`, rows);
    });
    const area = byId("map-plot");
    let pressed = null;
    area.addEventListener("pointermove", (event) => hover(nearestRow(event), event));
    area.addEventListener("pointerleave", () => hover(-1));
    area.addEventListener("pointerdown", (event) => { pressed = event; }, true);
    area.addEventListener("click", (event) => {
      const moved = pressed ? Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) : 0;
      const row = nearestRow(event);
      if (moved < 4 && row >= 0) showNearest(row);
    });
    area.addEventListener("keydown", moveByKey);
    startAxes(view);
    startLabels();
    byId("find").addEventListener("input", findPictures);
  }

  function frameOf() {
    const view = views.map, box = view.frame.bbox, place = view.el.getBoundingClientRect();
    const { x_range: xs, y_range: ys } = view.model;
    const across = box.width / (xs.end - xs.start), up = box.height / (ys.end - ys.start);
    const left = place.left + box.left, bottom = place.top + box.bottom;
    return { x: (value) => left + (value - xs.start) * across, y: (value) => bottom - (value - ys.start) * up, box, place };
  }

  function columns() {
    return [points.data[dots.glyph.x.field], points.data[dots.glyph.y.field]];
  }

  function nearestRow(event) {
    const { x, y, box, place } = frameOf(), [xs, ys] = columns();
    const inside = box.contains(event.clientX - place.left, event.clientY - place.top);
    let best = -1, least = PICK_PX ** 2;
    for (let row = 0; inside && row < codes.length; row++) {
      const distance = (x(xs[row]) - event.clientX) ** 2 + (y(ys[row]) - event.clientY) ** 2;
      if (distance <= least && isOn[codes[row]]) [best, least] = [row, distance];
    }
    return best;
  }

  function hover(row) {
    if (row === hovered) return;
    hovered = row;
    const box = byId("hover");
    box.classList.toggle("shown", row >= 0);
    if (row < 0) return;
    const [thumb, name, path] = box.children;
    showThumbnail(thumb, refOf(row), 128);
    thumb.style.width = thumb.style.height = "128px";
    name.textContent = data.labels[codes[row]];
    path.textContent = data.paths[row];
    const { x, y } = frameOf(), [xs, ys] = columns();
    const left = x(xs[row]), top = y(ys[row]), { width, height } = box.getBoundingClientRect();
    box.style.left = `${left + 16 + width > innerWidth ? left - 16 - width : left + 16}px`;
    box.style.top = `${Math.max(4, Math.min(top - height / 2, innerHeight - height - 4))}px`;
  }

  function moveByKey(event) {
    if (event.key === "Enter" && hovered >= 0) return showNearest(hovered);
    if (event.key === "Escape") return hover(-1);
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return undefined;
    event.preventDefault();
    const { x, y, box, place } = frameOf(), [xs, ys] = columns();
    const middle = [place.left + box.left + box.width / 2, place.top + box.top + box.height / 2];
    const [fromX, fromY] = hovered < 0 ? middle : [x(xs[hovered]), y(ys[hovered])];
    let best = hovered, least = Infinity;
    for (let row = 0; row < codes.length; row++) {
      const dx = x(xs[row]) - fromX, dy = y(ys[row]) - fromY;
      const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      // What lies more aside than ahead is for the other keys.
      if (isOn[codes[row]] && ahead > 0.5 && aside <= ahead && ahead + aside < least) [best, least] = [row, ahead + aside];
    }
    return hover(best);
  }

  function startAxes(view) {
    const axes = [["x", view.model.below[0], 1], ["y", view.model.left[0], 2]];
    for (const [way, axis, first] of axes) {
      const select = byId(`${way}-axis`);
      for (let number = 1; number <= Math.max(data.components, 2); number++) {
        select.append(new Option(axisText(number), number, false, number === first));
      }
      const set = () => {
        dots.glyph[way] = { field: `pc_${select.value}` };
        axis.axis_label = axisText(select.value);
      };
      select.addEventListener("change", () => { set(); fitRange(view.model[`${way}_range`], select.value); });
      axis.axis_label = axisText(first);
    }
  }

  function fitRange(range, number) {
    const values = points.data[`pc_${number}`];
    let low = Infinity, high = -Infinity;
    for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const space = (high - low) * 0.05 || 1;
    const ends = { start: low - space, end: high + space };
    range.setv({ ...ends, reset_start: ends.start, reset_end: ends.end });
    hover(-1);
  }

  function axisText(number) {
    const share = data.shares[number - 1];
    if (number > data.components) return "nothing: there is one component";
    return `component ${number}${share === undefined ? "" : ` (${(share * 100).toFixed(1)} %)`}`;
  }

  // Labels -----------------------------------------------------------------------------------

  function startLabels() {
    const list = byId("label-list");
    data.labels.forEach((label, code) => {
      const box = made("input", { type: "checkbox", checked: true });
      box.onchange = () => { isOn[code] = box.checked; applyLabels(); };
      const sign = made("span", { textContent: ` ${data.signs[code]} ` });
      sign.style.color = data.colours[code];
      const only = made("button", { type: "button", textContent: "only" });
      only.setAttribute("aria-label", `only ${label}`);
      only.onclick = () => switchLabels((other) => other === code);
      const count = made("small", { textContent: data.counts[code].toLocaleString("en") });
      const name = made("bdi", { textContent: label });
      list.append(made("li", {}, made("label", {}, box, sign, name), only, count));
    });
    const search = byId("label-search");
    const isFound = (code) => data.labels[code].toLowerCase().includes(search.value.trim().toLowerCase());
    search.addEventListener("input", () => {
      Array.from(list.children).forEach((item, code) => { item.hidden = !isFound(code); item.style.display = item.hidden ? "none" : ""; });
    });
    byId("all-labels").onclick = () => switchLabels(() => true);
    byId("no-labels").onclick = () => switchLabels(() => false);
    byId("found-labels").onclick = () => switchLabels(isFound);
  }

  function switchLabels(wanted) {
    byId("label-list").querySelectorAll("input").forEach((box, code) => {
      box.checked = isOn[code] = wanted(code);
    });
    applyLabels();
  }

  function applyLabels() {
    shown.booleans = Array.from(codes, (code) => isOn[code]);
    hover(-1);
  }

  function findPictures() {
    const wanted = byId("find").value.trim().toLowerCase();
    if (!wanted) return clearSelection();
    const rows = [];
    data.paths.forEach((path, row) => { if (path.toLowerCase().includes(wanted)) rows.push(row); });
    showPanel(`${rows.length} pictures with "${wanted}" in their path`, rows);
    points.selected.indices = [];
    return undefined;
  }

  // Plots: embedding, colours, saving --------------------------------------------------------

  async function embedded(name) {
    const item = byId(`${name}-item`);
    if (!item) return null;
    const manager = await Bokeh.embed.embed_item(JSON.parse(item.textContent), byId(`${name}-plot`));
    item.remove();
    views[name] = manager.roots[0];
    paint(views[name].model);
    return views[name];
  }

  function paint(plot) {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, line, card] = ["--ink", "--soft", "--line", "--card"].map((name) => style.getPropertyValue(name));
    plot.setv({ background_fill_color: card, border_fill_color: card, outline_line_color: line });
    for (const part of [...plot.below, ...plot.left, ...plot.center]) {
      if (part.axis_label !== undefined) {
        part.setv({ axis_label_text_color: ink, major_label_text_color: soft, axis_line_color: soft, major_tick_line_color: soft, minor_tick_line_color: null, axis_label_text_font_style: "normal" });
      } else if (part.grid_line_color !== undefined) {
        part.setv({ grid_line_color: line });
      } else if (part.dimension !== undefined) {
        part.setv({ line_color: ink });
      } else if (part.label_text_color !== undefined) {
        part.setv({ label_text_color: ink, background_fill_color: card, border_line_color: line });
      }
    }
  }

  byId("theme").onclick = () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    Object.values(views).forEach((view) => paint(view.model));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    Object.values(views).forEach((view) => paint(view.model));
  });

  document.querySelectorAll("button[data-save]").forEach((button) => {
    button.onclick = async () => {
      const { plot, save } = button.dataset;
      saveBlob(await views[plot].export(save, true).to_blob(), `${data.run}-${plot}.${save}`);
    };
  });

  // What a test waits for.
  window.fruits = { views, ready: Promise.all([startMap(), embedded("variance"), embedded("curves")]) };
})();
