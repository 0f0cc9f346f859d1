// The pieces of text of each article that stand on paper, by its id; formulas left out.
() => Object.fromEntries([...document.querySelectorAll("article")].map((article) => {
  const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT), pieces = [];
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (walk.currentNode.data.trim() && !node.closest("script, style, .katex, svg, button, select, canvas") && node.checkVisibility({ visibilityProperty: true }))
      pieces.push(walk.currentNode.data);
  }
  return [article.id, pieces];
}))
