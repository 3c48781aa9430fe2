"use strict";
// The viewer compares two outputs of one RAW. Its pictures are those of the crops' rows, so nothing is kept twice.
(() => {
  const viewer = document.getElementById("viewer");
  const rows = [...document.querySelectorAll(".row[data-raw]")].map((row) => {
    const all = [...row.querySelectorAll("img[data-method]")];
    const full = all.filter((image) => image.dataset.full !== undefined);
    // Whole frames and crops cannot be laid over each other.
    const whole = full.length > 1;
    return {
      row,
      whole,
      pictures: (whole ? full : all).map((image) => ({
        key: image.dataset.method,
        label: image.dataset.label,
        note: image.dataset.note,
        uri: image.dataset.full || image.src,
      })),
    };
  }).filter((entry) => entry.pictures.length > 1);
  if (!viewer || !rows.length) return;

  const get = (name) => viewer.querySelector(`[data-part="${name}"]`);
  const stage = get("stage"), frame = get("frame"), handle = get("handle"), at = get("at"), swap = get("swap");
  const raw = get("raw"), zoom = get("zoom"), says = get("says"), facts = get("facts");
  const sides = ["left", "right"].map((name) => ({
    choice: get(`${name}-choice`), image: get(`${name}-image`), tag: get(`${name}-tag`), text: get(`${name}-text`),
  }));
  const modes = [...viewer.querySelectorAll("input[name=viewer-mode]")];
  const FLICKER_MS = 700;
  let timer = null, shown = 1;

  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  const entry = () => rows[Number(raw.value)];
  const picture = (side) => entry().pictures.find((p) => p.key === sides[side].choice.value);
  const flickers = () => modes.some((mode) => mode.checked && mode.value === "flicker");

  function fill() {
    const keys = entry().pictures.map((p) => p.key);
    // What was compared stays; else best fixed against the prediction, else the first two.
    const wanted = sides.map((side, i) => side.choice.value || viewer.dataset[i ? "right" : "left"]);
    sides.forEach((side, i) => {
      side.choice.replaceChildren(...entry().pictures.map((p) => option(p.key, p.label)));
      side.choice.value = keys.includes(wanted[i]) ? wanted[i] : keys[i];
    });
    show();
  }

  function show() {
    sides.forEach((side, i) => {
      const p = picture(i);
      side.image.src = p.uri;
      side.image.alt = `${entry().row.dataset.raw}: ${p.label}`;
      side.tag.textContent = p.label;
      side.text.textContent = p.note ? `${p.label}, ${p.note}` : p.label;
    });
    facts.textContent = entry().row.dataset.facts;
    resize();
  }

  function resize() {
    const image = sides[1].image;
    if (!image.naturalWidth) return;
    const room = stage.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    let scale = Number(zoom.value) / ratio;
    if (zoom.value === "fit") {
      scale = room / image.naturalWidth;
      // Small frames grow by whole numbers, or their pixels would be of unequal size.
      if (scale >= 1) scale = Math.min(Math.floor(scale * ratio), 4 * Math.ceil(ratio)) / ratio;
    }
    frame.style.width = `${image.naturalWidth * scale}px`;
    frame.style.height = `${image.naturalHeight * scale}px`;
    frame.classList.toggle("pixels", scale * ratio >= 2);
    const kind = entry().whole ? "the whole output" : "a crop (the whole outputs are too large for this file)";
    says.textContent = `${image.naturalWidth}×${image.naturalHeight} pixels, ${kind}; `
      + `one of its pixels is ${Number((scale * ratio).toFixed(2))} of the screen's.`;
  }

  function wipe(percent) {
    const value = Math.min(100, Math.max(0, percent));
    at.value = String(value);
    frame.style.setProperty("--at", `${value}%`);
  }

  function flip(side) {
    shown = side;
    frame.classList.toggle("left-only", side === 0);
  }

  function change() {
    const on = flickers();
    clearInterval(timer);
    timer = null;
    frame.classList.toggle("flicker", on);
    at.disabled = on;
    swap.hidden = !on;
    flip(1);
    // Who asked for less motion changes the picture by hand.
    if (on && !window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
      timer = setInterval(() => flip(1 - shown), FLICKER_MS);
    }
  }

  function byHand() {
    clearInterval(timer);
    timer = null;
    flip(1 - shown);
  }

  function drag(event) {
    const box = frame.getBoundingClientRect();
    wipe((100 * (event.clientX - box.left)) / box.width);
  }

  raw.replaceChildren(...rows.map((e, i) => option(String(i), `${e.row.dataset.why}: ${e.row.dataset.raw}`)));
  raw.addEventListener("change", fill);
  zoom.addEventListener("change", resize);
  sides.forEach((side) => side.choice.addEventListener("change", show));
  sides[1].image.addEventListener("load", resize);
  window.addEventListener("resize", resize);
  modes.forEach((mode) => mode.addEventListener("change", change));
  swap.addEventListener("click", byHand);
  at.addEventListener("input", () => wipe(Number(at.value)));
  frame.addEventListener("pointerdown", (event) => {
    if (flickers()) return byHand();
    // A finger on the picture may want to scroll; on the handle it means the wipe.
    if (event.pointerType === "mouse" || event.target === handle) frame.setPointerCapture(event.pointerId);
    drag(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) drag(event);
  });
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowRight: 2, Home: -100, End: 100 }[event.key];
    if (event.key === " " && flickers()) byHand();
    else if (step && !flickers()) wipe(Number(at.value) + step);
    else return;
    event.preventDefault();
  });
  for (const { row } of rows) {
    const button = row.querySelector("button[data-show]");
    button.hidden = false;
    button.addEventListener("click", () => {
      raw.value = String(rows.findIndex((e) => e.row === row));
      fill();
      viewer.scrollIntoView({ block: "start" });
      stage.focus({ preventScroll: true });
    });
  }
  viewer.hidden = false;
  wipe(50);
  change();
  fill();
})();
