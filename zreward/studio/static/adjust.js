// Left and right choose a picture, up and down shift it; a picture can also be dragged up or down.
"use strict";
const DRAGGED = 24; // pixels up or down that count as a shift
const form = document.getElementById("adjust");
if (form) {
  untilSeen(form.querySelectorAll("img"), form.querySelectorAll("button"));
  const cards = [...form.querySelectorAll(".shiftable")];
  const choice = (card) => card.querySelector("select");
  const show = (card) => {
    const steps = Number(choice(card).value);
    card.dataset.shift = steps;
    card.querySelector("output").textContent = Number(card.dataset.score) + steps * Number(card.dataset.step);
  };
  const move = (card, steps) => {
    const wanted = String(Math.max(-1, Math.min(1, steps)));
    if ([...choice(card).options].some((option) => option.value === wanted)) choice(card).value = wanted;
    show(card);
  };
  cards.forEach((card) => {
    show(card);
    choice(card).addEventListener("change", () => show(card));
    let drag = null;
    const picture = card.querySelector("img");
    picture.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      drag = { y: event.clientY, steps: Number(choice(card).value) };
      picture.setPointerCapture(event.pointerId);
      choice(card).focus({ preventScroll: true });
    });
    picture.addEventListener("pointermove", (event) => {
      if (drag) move(card, drag.steps + Math.sign(Math.trunc((drag.y - event.clientY) / DRAGGED)));
    });
    for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { drag = null; });
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("dialog")) return;
    const at = cards.findIndex((card) => card.contains(document.activeElement));
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const steps = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (along) choice(cards[at < 0 ? 0 : (at + along + cards.length) % cards.length]).focus();
    else if (steps && at >= 0) move(cards[at], Number(choice(cards[at]).value) + steps);
    else if (event.key === "Enter" && !event.repeat && event.target.matches("select")) {
      if (!form.querySelector("button").disabled) form.requestSubmit();
    }
    else return;
    event.preventDefault();
  });
  if (cards.length) choice(cards[0]).focus();
}
