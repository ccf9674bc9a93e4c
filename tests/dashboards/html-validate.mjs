// How html-validate judges the public pages: with all that its authors recommend. A rule that is set here says why.
export default {
  root: true,
  extends: ["html-validate:recommended", "html-validate:a11y", "html-validate:document"],
  rules: {
    // Sheets and pictures lie in the same folder as the page: who can change one can change the other.
    "require-sri": ["error", { target: "crossorigin" }],
  },
};
