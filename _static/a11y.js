/* Repairs what an accessibility checker finds on the stock theme's pages. Runs after the page and after MathJax. */
(function () {
  "use strict";
  const all = (selector, change) => document.querySelectorAll(selector).forEach(change);

  function repair() {
    // A control's spoken name must contain its visible text ("Search Ctrl+K", "auto").
    all("button[aria-label], a[aria-label]", (el) => {
      const seen = el.innerText.trim().replace(/\s+/g, " ");
      if (seen && !el.getAttribute("aria-label").toLowerCase().includes(seen.toLowerCase())) {
        el.removeAttribute("aria-label");
        if (!el.title) el.title = seen;
      }
    });
    // Everything visible lies in a landmark.
    all("#pst-skip-link, .skip-link", (el) => el.closest("nav") || wrap(el, "nav", "Skip"));
    all(".bd-sidebar-primary .navbar-brand", (el) => el.closest("nav, header") || wrap(el, "nav", "Home"));
    // Sphinx writes a long signature as a definition list without terms.
    all("dt.sig dl", (list) => {
      list.querySelectorAll("dd").forEach((el) => retag(el, "sig-parameter"));
      retag(list, "sig-parameters");
    });
    // The bibliography's roles are deprecated or stand outside the list they need.
    all("[role='doc-biblioentry'], [role='doc-bibliography'] [role='listitem']", (el) => el.removeAttribute("role"));
    all("div.citation-list", (el) => el.setAttribute("role", "list"));
    all("div.citation-list > div.citation", (el) => el.setAttribute("role", "listitem"));
    scrollable();
  }

  // What scrolls sideways must be reachable by keyboard.
  function scrollable() {
    all("mjx-container, pre, .table-wrapper, .pst-scrollable-table-container, .cell_output, .output, div.math", (el) => {
      if (el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).overflowX !== "visible") {
        el.tabIndex = 0;
        if (!el.hasAttribute("role") && el.tagName === "DIV") {
          el.setAttribute("role", "group");
          el.setAttribute("aria-label", "Scrolls sideways");
        }
      }
    });
  }

  function retag(el, name) {
    const div = document.createElement("div");
    div.className = name;
    div.append(...el.childNodes);
    el.replaceWith(div);
  }

  function wrap(el, tag, label) {
    const box = document.createElement(tag);
    box.setAttribute("aria-label", label);
    el.replaceWith(box);
    box.append(el);
  }

  window.addEventListener("load", () => {
    repair();
    window.MathJax?.startup?.promise?.then(scrollable);
    window.addEventListener("resize", scrollable);
  });
})();
