// Keys of a blind comparison: 1 or left, 2 or down, 3 or right, u back, z shows a picture large. Without this file the buttons do the same.
"use strict";
(() => {
  let shown = performance.now();
  window.addEventListener("load", () => { shown = performance.now(); }); // the pictures are there
  const KEYS = { 1: "left", ArrowLeft: "left", 2: "same", ArrowDown: "same", 3: "right", ArrowRight: "right" };
  let sent = false;
  untilSeen(document.querySelectorAll(".pair img"), document.querySelectorAll("form.verdict button"));

  for (const form of document.querySelectorAll("form.verdict")) {
    form.addEventListener("submit", (event) => {
      if (sent) event.preventDefault();
      sent = true;
      form.elements.seconds.value = ((performance.now() - shown) / 1000).toFixed(2);
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
    const side = KEYS[event.key];
    if (side) {
      event.preventDefault();
      document.querySelector(`form.verdict[data-current] button[value=${side}]`)?.click();
    } else if (event.key === "u") {
      document.querySelector("[data-key=undo]")?.click();
    }
  });

  // A page that comes back from the browser's memory can be answered again.
  window.addEventListener("pageshow", () => { sent = false; });
})();
