// Keys: 1 to 9 answer, 0 cannot judge, left and right move along the scores, u goes back. Seconds count while the page is seen.
// Examples that were folded away stay so while the tab is open.
"use strict";
const form = document.getElementById("rating");
if (form) {
  let seen = 0, since = document.hidden ? null : performance.now();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && since !== null) { seen += performance.now() - since; since = null; }
    else if (!document.hidden) since = performance.now();
  });
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    form.elements.seconds.value = ((seen + (since === null ? 0 : performance.now() - since)) / 1000).toFixed(2);
  });
  window.addEventListener("pageshow", () => { delete form.dataset.sent; });
  const scores = [...form.querySelectorAll(".scores button")];
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const button = form.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
    if (button) { event.preventDefault(); button.focus(); form.requestSubmit(button); return; }
    if (event.key === "u" && form.dataset.undo) { event.preventDefault(); location.assign(form.dataset.undo); return; }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      const at = scores.indexOf(document.activeElement);
      scores[at < 0 ? Math.floor(scores.length / 2) : Math.min(scores.length - 1, Math.max(0, at + step))].focus();
    }
  });
  const examples = document.querySelector("details.beside");
  if (examples) {
    examples.open = !sessionStorage.getItem("examples folded");
    examples.addEventListener("toggle", () => {
      if (examples.open) sessionStorage.removeItem("examples folded");
      else sessionStorage.setItem("examples folded", "yes");
    });
  }
}
