// The pointer's and the keyboard's way to a chart's points, and panels that come a few at a time.
const REACH = 26;
const TIP = document.getElementById("tip");

function listen(svg, points) {
  let current = -1;
  const halo = draw(svg, "circle", { r: 7, class: "halo", visibility: "hidden" });
  const show = (k, x, y) => {
    current = k;
    halo.setAttribute("cx", points[k].px);
    halo.setAttribute("cy", points[k].py);
    halo.setAttribute("visibility", "visible");
    tell(points[k].tip, x, y);
  };
  const hide = () => {
    halo.setAttribute("visibility", "hidden");
    TIP.hidden = true;
  };
  const onPointer = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = WIDTH / box.width;
    const k = nearest(points, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
    if (k < 0) hide();
    else show(k, event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", onPointer);
  svg.addEventListener("pointerdown", onPointer);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !points.length) return;
    event.preventDefault();
    const from = current < 0 && step < 0 ? 0 : current;
    const k = (from + step + points.length) % points.length;
    const box = svg.getBoundingClientRect();
    show(k, box.left + (points[k].px * box.width) / WIDTH, box.top + (points[k].py * box.width) / WIDTH);
  });
}

function nearest(points, px, py) {
  let [best, found] = [REACH ** 2, -1];
  points.forEach((point, k) => {
    const far = (point.px - px) ** 2 + (point.py - py) ** 2;
    // Of points at one place the last is on top.
    if (far <= best) [best, found] = [far, k];
  });
  return found;
}

function tell(text, x, y) {
  TIP.textContent = text;
  TIP.hidden = false;
  const box = TIP.getBoundingClientRect();
  const left = Math.min(x + 14, document.documentElement.clientWidth - box.width - 6);
  const top = y + 18 + box.height > document.documentElement.clientHeight ? y - box.height - 12 : y + 18;
  TIP.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

// Draws the first `size` of the items, and as many more each time that the reader asks.
function panels(host, items, render, size) {
  host.replaceChildren();
  const more = element("button", { type: "button", class: "more" });
  let drawn = 0;
  const advance = () => {
    for (const item of items.slice(drawn, drawn + size)) more.before(render(item));
    drawn = Math.min(drawn + size, items.length);
    more.textContent = `Show more (${count(items.length - drawn, "panel")} left)`;
    more.hidden = drawn >= items.length;
  };
  more.addEventListener("click", advance);
  host.append(more);
  advance();
}

function notice(host, sentence) {
  host.replaceChildren(element("p", { class: "hint empty" }, sentence));
}

function chunks(items, size) {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, k) => items.slice(k * size, (k + 1) * size));
}
