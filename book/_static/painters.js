// A formula wider than its place is drawn smaller, down to two thirds: nothing to scroll, no stop for the tabulator.
// Code and tables that scroll are stops while they do, also after a fold was opened.
const widths = new WeakMap();
const fit = new ResizeObserver((entries) => {
  for (const { target: place, contentRect: { width } } of entries) {
    if (widths.get(place) === width) continue;
    widths.set(place, width);
    const formula = place.matches("div.math") && place.querySelector(".katex-html");
    if (formula) {
      formula.style.fontSize = "";
      const share = place.clientWidth / place.scrollWidth;
      if (share < 1) formula.style.fontSize = `${Math.max(66, Math.floor(99 * share))}%`;
    } else {
      place.tabIndex = place.scrollWidth > place.clientWidth ? 0 : -1;
    }
  }
});

window.addEventListener("load", () => {
  document.fonts.ready.then(() => {
    for (const place of document.querySelectorAll("div.math, .bd-article pre")) fit.observe(place);
  });
});

// The theme gives its sidebars' handler to the first of two buttons each, which this site does not show: the visible
// ones press it.
document.addEventListener("DOMContentLoaded", () => {
  for (const name of [".primary-toggle", ".secondary-toggle"]) {
    const [first, ...others] = document.querySelectorAll(name);
    for (const button of others) button.addEventListener("click", () => first.click());
  }
});
