// The button that fetches networks, and what it says meanwhile.

import { cost, loadAll } from "./network.js";

/**
 * Let the button `load` of a form fetch the networks of a model, and hand them to `begin`. It says how large they are,
 * how far they have come, and what went wrong; what needs them is shown when they are there.
 */
export function offer(form, facts, base, begin) {
  const button = form.elements.load;
  const place = button.parentElement;
  const [bar, problem] = [place.querySelector("progress"), form.elements.problem];
  button.textContent += ` (${(cost(facts) / 1e6).toFixed(0)} MB)`;
  const name = button.textContent;
  if (typeof WebAssembly === "undefined") {
    place.textContent = "This browser has no WebAssembly, without which the network cannot paint here.";
    return;
  }
  button.addEventListener("click", async () => {
    Object.assign(button, { disabled: true, textContent: "Loading …" });
    bar.hidden = false;
    problem.textContent = "";
    let networks;
    try {
      networks = await loadAll(facts, base, (share) => {
        bar.value = share;
        if (share === 1) button.textContent = "Starting …";
      });
    } catch (error) {
      problem.textContent = `The network could not be loaded: ${error.message}. Try again, or reload the page.`;
      Object.assign(button, { disabled: false, textContent: name });
      bar.hidden = true;
      return;
    }
    place.remove();
    for (const node of form.querySelectorAll("[data-needs=network]")) node.hidden = false;
    begin(networks);
  });
}
