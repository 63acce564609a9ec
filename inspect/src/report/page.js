"use strict";
// The path under the pointer, at once and in full. Without this script the browser shows it after a while, as a tooltip.
for (const figure of document.querySelectorAll("figure:has(.treemap)")) {
  const caption = figure.querySelector(".pointed");
  const hint = caption.textContent;
  figure.querySelector(".treemap").addEventListener("pointermove", (event) => {
    const title = event.target.querySelector(":scope > title");
    caption.textContent = title ? title.textContent : hint;
  });
  figure.addEventListener("pointerleave", () => { caption.textContent = hint; });
}
