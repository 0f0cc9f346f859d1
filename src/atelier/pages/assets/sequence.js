(function () {
  // Everything is found from the script's own place, so any number of sequences live on one page.
  const root = document.currentScript.parentElement;
  const input = root.querySelector("input"), output = root.querySelector("output");
  const frames = root.querySelectorAll(".frame");
  function show() {
    frames.forEach((frame, i) => { frame.classList.toggle("on", i == input.value); });
    const text = frames[input.value].dataset.label;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
  input.addEventListener("input", show);
  root.classList.add("live");
  show();
})();
