// How the search orders what it finds. Sphinx gives 15 for a word in a title or heading, 5 for one in the text, and up
// to 100 for a term of the glossary. This book adds the place: first a page whose own title has the words, then a term's
// definition, then the chapters in their order, then other reference, and last the package's.
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    if (/^book\/api\b/.test(page)) return score - 200;
    if (/^book\/(bibliography|status)$/.test(page)) return score - 100;
    if (/^book\/(glossary|symbols|claims|guide)$/.test(page)) return score;
    const plain = title.replace(/<[^>]*>/g, "").toLowerCase(); // "14. the law of guidance"
    const words = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().match(/[a-z0-9]{3,}/g) ?? [];
    const held = words.filter((word) => ` ${plain}`.includes(` ${word.replace(/s$/, "")}`));
    const number = Number(plain.match(/^\d+/)?.[0] ?? 0);
    return Math.min(score, 15) + 20 - number / 10 + (words.length ? (100 * held.length) / words.length : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
