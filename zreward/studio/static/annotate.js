// Rating by key: 1 to 9 answer, 0 cannot judge, left and right move along the scores, u goes back.
// The next pictures are fetched ahead, so that one is on the screen as soon as its predecessor is answered. No key and no
// button answers a picture that is not on the screen yet: they are switched off until it is. Answers are sent one after the
// other, and again until the studio has confirmed them; the page says while one is not saved.
"use strict";
const AHEAD = 6, UNSAVED = 5; // pictures ready; answers under way, beyond which rating waits
const RETRY = 1000, FIRST = 1500; // ms: between two tries; that the first picture waits for those after it
const form = document.getElementById("rating");
if (form) {
  const at = (id) => document.getElementById(id);
  const fields = form.elements, buttons = [...form.querySelectorAll("button")];
  const dimension = fields.dimension.value, home = `/annotate?dimension=${encodeURIComponent(dimension)}`;
  const ahead = [], sending = []; // items to be shown; answers that are not confirmed
  let shown = { candidate: fields.candidate.value, token: fields.token.value };
  let ready = false, asking = false, none = false, stopped = false, first = true, seen = 0, since = null;
  const status = document.createElement("p");
  status.className = "saving";
  status.setAttribute("role", "status");
  document.querySelector("main").prepend(status);

  const name = (item) => `${item.candidate}.${item.token}`;
  const held = (answered) => [shown, ...ahead, ...sending.map((one) => one.item)].filter((item) => item !== answered).map(name).join(",");
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const say = (text) => {
    status.textContent = text ?? (sending.length ? `${sending.length} not saved yet` : "");
    document.body.dataset.unsaved = sending.length;
  };

  // The picture on the screen.
  function start() {
    ready = true;
    first = false;
    seen = 0;
    since = document.hidden ? null : performance.now();
    buttons.forEach((button) => { button.disabled = false; });
  }
  async function wait(picture) {
    ready = false;
    buttons.forEach((button) => { button.disabled = true; });
    try {
      await picture.decode();
      if (first) await Promise.race([pause(FIRST), Promise.allSettled(ahead.slice(0, 2).map((item) => item.picture.decode()))]);
      if (picture.isConnected && !stopped) start();
    } catch {
      if (!picture.isConnected || stopped) return;
      ready = true;
      buttons.forEach((button) => { button.disabled = button.dataset.key !== "0"; });
      status.textContent = "The picture cannot be loaded. Load the page again, or answer that it cannot be judged.";
    }
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && since !== null) { seen += performance.now() - since; since = null; }
    else if (!document.hidden && ready) since = performance.now();
  });
  function show(item) {
    const back = `/annotate/${shown.candidate}/${encodeURIComponent(dimension)}/${shown.token}`;
    shown = item;
    fields.candidate.value = item.candidate;
    fields.token.value = item.token;
    item.picture.alt = "The picture to rate";
    document.querySelector(".shown img").replaceWith(item.picture);
    document.querySelector(".shown a").href = `/pictures/${item.candidate}?width=1280`;
    document.querySelector(".asked").textContent = item.prompt;
    at("returned").textContent = item.comment ? `Sent back: ${item.comment}` : "";
    buttons.forEach((button) => {
      if (button.value === item.said) button.setAttribute("aria-pressed", "true"); else button.removeAttribute("aria-pressed");
    });
    form.dataset.undo = at("undo").href = back;
    at("undo").hidden = false;
    history.replaceState(null, "", home);
    document.activeElement?.blur();
    wait(item.picture);
    fill();
  }

  // Pictures ahead.
  async function page(address, options) {
    const answer = await fetch(address, { credentials: "same-origin", headers: { accept: "text/html" }, ...options });
    return { code: answer.status, html: new DOMParser().parseFromString(await answer.text(), "text/html") };
  }
  function keep(html) { // the pictures of a page that are not known yet: how many
    const known = new Set(held().split(","));
    const found = [...html.querySelectorAll("template.item")].map((one) => ({ ...one.dataset })).filter((item) => !known.has(name(item)));
    found.forEach((item) => {
      item.picture = new Image(); // fetched before it is needed
      item.picture.src = `/pictures/${item.candidate}?width=640`;
      ahead.push(item);
    });
    return found.length;
  }
  async function fill() {
    if (asking || none || stopped || ahead.length >= AHEAD / 2) return;
    asking = true;
    try {
      const { code, html } = await page(`${home}&held=${held()}`);
      none = !keep(html) && code < 500;
    } catch { await pause(RETRY); }
    asking = false;
  }

  // Answers.
  async function send() {
    while (sending.length && !stopped) {
      const { item, body } = sending[0];
      body.set("held", held(item));
      try {
        const { code, html } = await page("/labels", { method: "POST", body: new URLSearchParams(body), keepalive: true });
        if (code >= 500 || code === 429) throw new Error(`status ${code}`);
        if (code >= 400) { refuse(html, code); return; }
        sending.shift();
        const now = html.querySelector(".progress"), old = document.querySelector(".progress");
        if (now && !old.querySelector("details[open]")) old.replaceWith(document.adoptNode(now));
        if (ahead.length < AHEAD) keep(html);
        say();
      } catch {
        say(`${sending.length} not saved: the studio does not answer. Trying again.`);
        await pause(RETRY);
      }
    }
  }
  function refuse(html, code) {
    stopped = true;
    ready = false;
    buttons.forEach((button) => { button.disabled = true; });
    const again = document.createElement("a");
    again.href = home;
    again.textContent = "Load the page again";
    again.addEventListener("click", () => { sending.length = 0; });
    say(`${sending.length} not saved: ${html.querySelector("[role=alert]")?.textContent ?? (code === 401 ? "you are signed out" : `the studio answered ${code}`)}. `);
    status.append(again);
  }
  function answer(button) {
    if (!ready || button.disabled || sending.length >= UNSAVED) return;
    const body = new FormData(form, button);
    body.set("seconds", ((seen + (since === null ? 0 : performance.now() - since)) / 1000).toFixed(2));
    sending.push({ item: shown, body });
    say();
    if (sending.length === 1) send();
    next();
  }
  async function next() { // at once where a picture is ready; else when one comes, or the studio says that none is left
    ready = false;
    buttons.forEach((button) => { button.disabled = true; });
    while (!ahead.length && !stopped && (sending.length || asking || !none)) {
      fill();
      await pause(20);
    }
    if (stopped) return;
    if (ahead.length) show(ahead.shift());
    else location.assign(home);
  }
  async function back(address) { // the answer is in the studio before it is looked at again
    ready = false;
    while (sending.length && !stopped) await pause(20);
    if (!stopped) location.assign(address);
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); if (event.submitter) answer(event.submitter); });
  at("undo").addEventListener("click", (event) => { event.preventDefault(); back(at("undo").href); });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const button = form.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
    if (button) { event.preventDefault(); answer(button); return; }
    if (event.key === "u" && form.dataset.undo) { event.preventDefault(); back(form.dataset.undo); return; }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      const scores = [...form.querySelectorAll(".scores button")], now = scores.indexOf(document.activeElement);
      scores[now < 0 ? Math.floor(scores.length / 2) : Math.min(scores.length - 1, Math.max(0, now + step))].focus();
    }
  });
  window.addEventListener("beforeunload", (event) => { if (sending.length) event.preventDefault(); });
  window.addEventListener("pagehide", () => { // those that wait for their turn; what arrives twice is saved once
    sending.slice(1).forEach(({ body }) => fetch("/labels", { method: "POST", body: new URLSearchParams(body), keepalive: true }));
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  keep(document);
  wait(document.querySelector(".shown img"));
  fill();

  // Examples that were folded away stay so while the tab is open.
  const examples = document.querySelector("details.beside");
  if (examples) {
    examples.open = !sessionStorage.getItem("examples folded");
    examples.addEventListener("toggle", () => {
      if (examples.open) sessionStorage.removeItem("examples folded");
      else sessionStorage.setItem("examples folded", "yes");
    });
  }
}
