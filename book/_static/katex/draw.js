// Draw what stands between \( \) or \[ \], once, when the page is read and before it is shown.
renderMathInElement(document.body, {
  delimiters: [
    { left: "\\(", right: "\\)", display: false },
    { left: "\\[", right: "\\]", display: true },
  ],
  ignoredClasses: ["notes"], // a teacher's, in slides
  throwOnError: false,
});

// A short formula stays on the line of the comma or full stop that follows it.
for (const place of document.querySelectorAll("span.math")) {
  const after = place.nextSibling, drawn = place.querySelector(".katex-html");
  if (after?.nodeType !== Node.TEXT_NODE || !drawn || drawn.textContent.length > 24) continue;
  const [marks] = /^[.,;:!?)\]’”]+/.exec(after.data) ?? [""];
  if (!marks) continue;
  const together = document.createElement("span");
  together.style.whiteSpace = "nowrap";
  after.splitText(marks.length);
  place.before(together);
  together.append(place, after);
}
