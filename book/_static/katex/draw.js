// Draw what stands between \( \) or \[ \], once, when the page is read and before it is shown.
renderMathInElement(document.body, {
  delimiters: [
    { left: "\\(", right: "\\)", display: false },
    { left: "\\[", right: "\\]", display: true },
  ],
  ignoredClasses: ["notes"], // a teacher's, in slides
  throwOnError: false,
});
