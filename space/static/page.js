// The page's title, the switch between light and dark, and names for plots. Gradio draws the rest.
(() => {
  const names = { own: "Your run", laws: "Laws", curves: "Curves", models: "Models", contribute: "Contribute", about: "About" };
  const here = window.location.pathname.split("/").pop();
  document.title = `${names[here] || "Token budget"} · p2zoo`;
  document.documentElement.lang = "en";

  const dark = () => document.body.classList.contains("dark");
  const paint = (wanted) => document.body.classList.toggle("dark", wanted);
  try {
    const kept = localStorage.getItem("p2zoo-dark");
    if (kept !== null) paint(kept === "1");
  } catch { /* no storage: the system's choice stays */ }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".dark-switch")) return;
    paint(!dark());
    try { localStorage.setItem("p2zoo-dark", dark() ? "1" : "0"); } catch { /* not kept */ }
  });

  // A list opens again in Gradio after it closed, where its field is left by Tab: it hears the key too late.
  window.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && event.target.matches?.("[role=combobox]")) event.stopPropagation();
  }, true);

  // What an answer says, for those who hear it: a region that was there before, told only what has changed.
  const SAID = "#answer .state, #answer .sentence, #own-answer [role=status] > p:first-child, #runs > div > p, #models .empty";
  const live = document.createElement("div");
  live.className = "unseen";
  live.setAttribute("aria-live", "polite");
  live.id = "live";
  const tell = () => {
    if (!live.isConnected) document.body?.append(live);
    const said = [...document.querySelectorAll(SAID)].map((part) => part.textContent.trim()).join(". ");
    if (live.textContent !== said) live.textContent = said;
  };

  // A plot is an image to those who cannot see it; the caption that follows it is its text.
  const describe = () => {
    tell();
    if (document.getElementById("page")) document.getElementById("shell")?.remove();
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    for (const plot of document.querySelectorAll(".js-plotly-plot:not([role])")) {
      plot.setAttribute("role", "img");
    }
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      const caption = plot.closest(".figure")?.querySelector(".caption")?.textContent.trim() || "Plot";
      if (plot.getAttribute("aria-label") !== caption) plot.setAttribute("aria-label", caption);
    }
  };
  new MutationObserver(describe).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
})();
