// Pointing at a box of the picture shows its card; without this, following the box does.
for (const link of document.querySelectorAll("figure a")) {
  const card = document.querySelector(link.getAttribute("href"));
  const shown = (on) => () => { card.classList.toggle("shown", on); };
  for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
    link.addEventListener(event, shown(on));
  card.addEventListener("pointerenter", () => link.classList.add("shown"));
  card.addEventListener("pointerleave", () => link.classList.remove("shown"));
}
