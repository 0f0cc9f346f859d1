// On paper a page is black on white, whatever the reader's theme.
{
  const page = document.documentElement.dataset;
  let theme = null;
  const before = () => { if (page.theme !== "light") { theme = page.theme; page.theme = "light"; } };
  const after = () => { if (theme !== null) { page.theme = theme; theme = null; } };
  addEventListener("beforeprint", before);
  addEventListener("afterprint", after);
  matchMedia("print").addEventListener("change", (paper) => (paper.matches ? before() : after()));
}
