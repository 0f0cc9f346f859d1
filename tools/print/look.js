// What would be wrong on paper with the page as it stands, a sentence each. Run in the print medium.
() => {
  const SKIP = "script, style, [hidden], .control, .controls, .hide > summary, .katex, button, select, .headerlink, .frame, .citation > .label, " +
    ".ledger thead, .ledger td[data-verdict='not measured'], [id$='execution-times'] :is(th, td):last-child";
  const problems = [];
  const say = (what, node, text = node.textContent) =>
    problems.push(`${node.closest("article").id}: ${what}: ${text.replace(/\s+/g, " ").trim().slice(0, 70)}`);
  const visible = (node) => node.checkVisibility({ contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true });

  for (const article of document.querySelectorAll("article")) {
    const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const node = walk.currentNode.parentElement;
      if (walk.currentNode.data.trim() && !node.closest(SKIP) && !visible(node)) say("hidden", node, walk.currentNode.data);
    }
    for (const node of article.querySelectorAll("*")) {
      const box = node.getBoundingClientRect(), style = getComputedStyle(node);
      if (node.closest(".katex, svg") || !box.width || !visible(node)) continue;
      if (node.parentElement.dataset.over) {
        node.dataset.over = "said";
        continue;
      }
      const over = (axis, size) => style[`overflow${axis}`] !== "visible" && node[`scroll${size}`] > node[`client${size}`] + 2;
      if (over("X", "Width") || over("Y", "Height")) say("cut", node);
      if (box.right > innerWidth + 1 || box.left < -1) say("beyond the margin", node);
      else continue;
      node.dataset.over = "said";
    }
    for (const part of article.querySelectorAll(".katex-html > .base")) {
      if (visible(part) && part.getBoundingClientRect().right > innerWidth + 1) say("beyond the margin", part);
    }
    for (const formula of article.querySelectorAll(".math")) {
      if (!formula.querySelector(".katex-html")) say("no formula", formula);
      if (formula.querySelector(".katex-error")) say("not understood", formula);
    }

    const pen = Object.assign(document.createElement("canvas"), { width: 24, height: 24 }).getContext("2d", { willReadFrequently: true });
    const blank = (image) => {
      if (!image.naturalWidth || image.getBoundingClientRect().width < 12) return true;
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, 24, 24);
      pen.drawImage(image, 0, 0, 24, 24);
      const pixels = new Uint32Array(pen.getImageData(0, 0, 24, 24).data.buffer);
      return pixels.every((pixel) => pixel === pixels[0]);
    };
    for (const image of article.querySelectorAll("img")) {
      if (image.closest(".frame-sequence") ? visible(image) && blank(image) : !image.closest("[hidden]") && (!visible(image) || blank(image)))
        say("a blank picture", image, image.alt);
    }
    for (const sequence of article.querySelectorAll(".frame-sequence")) {
      const frames = [...sequence.querySelectorAll(".frame")], shown = frames.filter(visible);
      const enough = shown.length >= Math.min(4, frames.length) && shown.at(-1) === frames.at(-1) && shown[0] === frames[0];
      if (!enough) say(`${shown.length} of ${frames.length} frames`, sequence, sequence.getAttribute("aria-label"));
      if (shown.some((frame) => frame.getBoundingClientRect().width < 75)) say("frames too small", sequence, sequence.getAttribute("aria-label"));
    }
  }
  return problems;
}
