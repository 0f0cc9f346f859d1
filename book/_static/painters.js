// The theme gives its sidebars' handler to the first of two buttons each, which this site does not show: the visible
// ones press it.
document.addEventListener("DOMContentLoaded", () => {
  for (const name of [".primary-toggle", ".secondary-toggle"]) {
    const [first, ...others] = document.querySelectorAll(name);
    for (const button of others) button.addEventListener("click", () => first.click());
  }
});
