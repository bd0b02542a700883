"use strict";
// Before anything is painted: the theme that was chosen last.
try {
  const kept = localStorage.getItem("probekit-theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch { /* a page that is opened from a file may have no storage */ }
