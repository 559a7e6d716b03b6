// Switches buttons off until the pictures that they judge can be seen: nobody answers what is not on the screen yet.
"use strict";
function untilSeen(pictures, buttons) {
  const all = [...buttons];
  all.forEach((button) => { button.disabled = true; });
  const loaded = (picture) => picture.complete ? picture.decode() : new Promise((done, fail) => {
    picture.addEventListener("load", done, { once: true });
    picture.addEventListener("error", fail, { once: true });
  });
  Promise.all([...pictures].map(loaded)).then(
    () => all.forEach((button) => { button.disabled = false; }),
    () => {
      const problem = document.createElement("p");
      problem.className = "problem";
      problem.setAttribute("role", "alert");
      problem.textContent = "A picture cannot be loaded. Load the page again, or tell quality control.";
      document.querySelector("main").prepend(problem);
    },
  );
}
