// How the search orders what it finds. Sphinx gives 15 for a word in a title, 5 for one in the text, and up to 100 for
// a term of the glossary; this book adds the place: a page whose title has the word comes first, then a term's
// definition, then the chapters, then the other pages of reference, and last the reference of the package.
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    if (/^book\/api\b/.test(page)) return score - 200;
    if (/^book\/(bibliography|status)$/.test(page)) return score - 100;
    if (/^book\/(glossary|symbols|claims|guide)$/.test(page)) return score;
    return score + (anchor === "" && score >= 15 ? 100 : 20);
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
