(function () {
  // Everything is found from the script's own place, so any number of sequences live on one page.
  const root = document.currentScript.parentElement;
  const input = root.querySelector("input"), output = root.querySelector("output");
  const frames = root.querySelectorAll(".frame"), button = root.querySelector("button.play");
  let timer = null;
  function show() {
    frames.forEach((frame, i) => { frame.classList.toggle("on", i == input.value); });
    const text = frames[input.value].dataset.label;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    if (button) button.textContent = "Play";
  }
  function step() {
    if (+input.value >= frames.length - 1) return stop();
    input.value = +input.value + 1;
    show();
  }
  function play() {
    if (+input.value >= frames.length - 1) { input.value = 0; show(); }
    button.textContent = "Pause";
    timer = setInterval(step, 600);
  }
  // Whoever takes the slider has it.
  input.addEventListener("input", () => { stop(); show(); });
  if (button) {
    button.addEventListener("click", () => { if (timer) stop(); else play(); });
    // It plays once by itself, when it is seen, and not where less motion is asked for.
    if (window.IntersectionObserver && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      const seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        seen.disconnect();
        setTimeout(() => { if (!timer) play(); }, 1200);
      }, { threshold: 0.6 });
      seen.observe(root);
    }
  }
  root.classList.add("live");
  show();
})();
