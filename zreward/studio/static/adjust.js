// Left and right choose a picture, up and down shift it; a picture can also be dragged up or down.
"use strict";
const form = document.getElementById("adjust");
if (form) {
  const cards = [...form.querySelectorAll(".shiftable")];
  const choice = (card) => card.querySelector("select");
  const show = (card) => {
    const steps = Number(choice(card).value);
    card.dataset.shift = steps;
    card.querySelector("output").textContent = Number(card.dataset.score) + steps * Number(card.dataset.step);
  };
  const shift = (card, steps) => {
    const wanted = String(Math.max(-1, Math.min(1, Number(choice(card).value) + steps)));
    if ([...choice(card).options].some((option) => option.value === wanted)) choice(card).value = wanted;
    show(card);
  };
  cards.forEach((card) => {
    show(card);
    choice(card).addEventListener("change", () => show(card));
    let from = null;
    card.addEventListener("pointerdown", (event) => {
      if (event.target.closest("select")) return;
      from = event.clientY;
      card.setPointerCapture(event.pointerId);
      choice(card).focus();
    });
    card.addEventListener("pointerup", (event) => {
      if (from !== null && Math.abs(event.clientY - from) > 24) shift(card, event.clientY < from ? 1 : -1);
      from = null;
    });
  });
  document.addEventListener("keydown", (event) => {
    const at = cards.findIndex((card) => card.contains(document.activeElement));
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const steps = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (move) choice(cards[at < 0 ? 0 : (at + move + cards.length) % cards.length]).focus();
    else if (steps && at >= 0) shift(cards[at], steps);
    else if (event.key === "Enter" && at >= 0) form.requestSubmit();
    else return;
    event.preventDefault();
  });
  if (cards.length) choice(cards[0]).focus();
}
