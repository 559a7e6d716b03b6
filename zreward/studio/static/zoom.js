// A picture at full size over the page: a click on a link of class zoom, or z for the one in focus, else for the first.
// z, Escape or a click closes it.
"use strict";
{
  const links = () => [...document.querySelectorAll("a.zoom")]; // pages change
  const dialog = document.createElement("dialog");
  const picture = new Image();
  const close = document.createElement("button");
  dialog.className = "zoomed";
  dialog.setAttribute("aria-label", "Picture at full size");
  close.textContent = "Close";
  close.className = "small";
  dialog.append(picture, close);
  document.body.append(dialog);
  const open = (link) => {
    picture.src = link.href;
    picture.alt = link.querySelector("img")?.alt ?? link.dataset.alt;
    dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.zoom");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link);
  });
  dialog.addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "z" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else if (links().length) open(links().find((link) => link.closest(".shiftable, li")?.contains(document.activeElement)) ?? links()[0]);
  });
}
