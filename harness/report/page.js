// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"use strict";
// The page says everything without this script; it filters, folds, copies and changes colours.
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);
const search = one("#search"), hook = one("#hook"), shown = one("#shown");
const groups = all("tbody.group"), rows = all("tr.row");
let show = "all";

function wanted(row) {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.every((word) => row.dataset.text.includes(word))) return false;
  if (hook.value && !row.dataset.hooks.split(" ").includes(hook.value)) return false;
  return show === "all" || row.dataset.kinds.split(" ").includes(show);
}

function filter() {
  let count = 0;
  for (const group of groups) {
    const found = all("tr.row", group).filter((row) => {
      row.hidden = !wanted(row);
      return !row.hidden;
    });
    group.hidden = found.length === 0;
    count += found.length;
    const open = one(`#${group.id} button`).getAttribute("aria-expanded") === "true";
    if (!open) for (const row of found) row.hidden = true;
    // the name stands in the first row of a case that is to be seen
    let last = "";
    for (const row of found) {
      row.querySelector(".name").classList.toggle("again", row.dataset.name === last);
      last = row.dataset.name;
    }
  }
  shown.textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
  one("#nothing").hidden = count > 0;
  remember();
}

function remember() {
  const state = new URLSearchParams();
  if (search.value) state.set("q", search.value);
  if (hook.value) state.set("hook", hook.value);
  if (show !== "all") state.set("show", show);
  const text = state.toString();
  try {
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  } catch { /* some viewers forbid it */ }
}

function pick(kind) {
  show = kind;
  for (const button of all("[data-show]"))
    button.setAttribute("aria-pressed", String(button.dataset.show === kind));
}

function follow() {
  const place = location.hash.slice(1);
  const target = place && document.getElementById(place);
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView({ block: "start" });
  }
}

for (const button of all("[data-show]"))
  button.addEventListener("click", () => { pick(button.dataset.show); filter(); });
search.addEventListener("input", filter);
hook.addEventListener("change", filter);
for (const button of all(".topic button"))
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
    filter();
  });
one("#fold").addEventListener("click", () => {
  const buttons = all(".topic button");
  const open = buttons.some((each) => each.getAttribute("aria-expanded") === "true");
  for (const each of buttons) each.setAttribute("aria-expanded", String(!open));
  filter();
});
one("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
for (const button of all(".copy"))
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = "selected";
    }
  });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  }
});
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => { for (const each of all("details")) each.open = true; });

for (const each of all(".scripted")) each.hidden = false;
if (location.hash.includes("=")) {
  const state = new URLSearchParams(location.hash.slice(1));
  search.value = state.get("q") ?? "";
  hook.value = state.get("hook") ?? "";
  const kind = state.get("show");
  if (kind && all("[data-show]").some((each) => each.dataset.show === kind)) pick(kind);
  filter();
} else {
  follow();
}
