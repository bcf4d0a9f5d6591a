"use strict";
/* The picture: highlight, filter, zoom, pan and keys. It knows ends ("w3", "ns:shop", "world"), not policies. */
(function (root) {
  /**
   * svg and box: the drawing and the element that scrolls it. namespaceOf(end) and labelOf(end): of a workload's end, else null.
   * onChoose(end): a row was clicked. onZoom(scale): the scale changed.
   */
  function map({ svg, box, namespaceOf, labelOf, onChoose, onZoom, calm }) {
    const rows = [...svg.querySelectorAll(".row[data-end]")];
    const edges = [...svg.querySelectorAll("[data-from]")];
    const rowByEnd = new Map(rows.map((row) => [row.dataset.end, row]));
    const cards = new Map([...svg.querySelectorAll(".card[data-namespace]")].map((card) => ["ns:" + card.dataset.namespace, card]));
    const edgesByEnd = new Map();
    const size = svg.viewBox.baseVal;
    let scale = 1;
    let lit = [];
    let resting = null;
    let drag = null;

    function prepare() {
      // A picture is one image to a screen reader; rows that answer to keys are not.
      svg.setAttribute("role", "group");
      // The details say every link in words, so its line is left out.
      for (const group of svg.querySelectorAll(".edges")) group.setAttribute("aria-hidden", "true");
      for (const row of rows) {
        const label = labelOf(row.dataset.end);
        row.setAttribute("tabindex", "-1");
        row.setAttribute("role", label ? "button" : "img");
        row.setAttribute("aria-label", label || row.textContent.trim());
      }
      if (rows.length) rows[0].setAttribute("tabindex", "0");
      for (const edge of edges) {
        for (const end of new Set([edge.dataset.from, edge.dataset.to])) {
          if (!edgesByEnd.has(end)) edgesByEnd.set(end, []);
          edgesByEnd.get(end).push(edge);
        }
      }
    }

    // ---- highlight and filter ----

    const shapeOf = (end) => rowByEnd.get(end) || cards.get(end);

    /** The ends that stand for this one too: its namespace, and every workload. */
    function endsOf(end) {
      const namespace = namespaceOf(end);
      return new Set(namespace === null ? [end] : [end, "ns:" + namespace, "every"]);
    }

    /** Whether an edge of a namespace is one of this workload too: it may be an edge of all but some. */
    function isOf(edge, each, end) {
      const { from, to, fromBut = "", toBut = "" } = edge.dataset;
      return (from === each && !fromBut.split(" ").includes(end)) || (to === each && !toBut.split(" ").includes(end));
    }

    function light(end) {
      for (const node of lit) node.classList.remove("lit");
      svg.classList.toggle("focus", end !== null);
      lit = end === null ? [] : around(end);
      for (const node of lit) node.classList.add("lit");
    }

    /** The end, its edges, and what is at their other ends. */
    function around(end) {
      const mine = endsOf(end);
      const found = new Set([rowByEnd.get(end)]);
      for (const each of mine) {
        for (const edge of edgesByEnd.get(each) || []) {
          if (!isOf(edge, each, end)) continue;
          found.add(edge);
          const others = [edge.dataset.from, edge.dataset.to].filter((e) => !mine.has(e));
          for (const other of others) found.add(shapeOf(other));
          if (!others.length && each !== end) found.add(shapeOf(each));
        }
      }
      return [...found].filter(Boolean);
    }

    /** Dims what does not pass; passes(end) is true, false, or undefined for an end that no filter concerns. */
    function filter(passes) {
      for (const row of rows) row.classList.toggle("off", passes(row.dataset.end) === false);
      for (const [end, card] of cards) card.classList.toggle("off", passes(end) === false);
      for (const edge of edges) {
        const ends = [passes(edge.dataset.from), passes(edge.dataset.to)];
        edge.classList.toggle("off", ends.includes(false) && !ends.includes(true));
      }
    }

    function choose(end) {
      const [old, now] = [rowByEnd.get(resting), rowByEnd.get(end)];
      if (old) old.classList.remove("chosen");
      if (old) old.removeAttribute("aria-current");
      if (now) now.classList.add("chosen");
      if (now) now.setAttribute("aria-current", "true");
      if (now) rove(now);
      resting = end;
      rest();
      if (now) reveal(now);
    }

    function rest() {
      light(resting);
    }

    // ---- zoom and scroll ----

    /** Keeps the point at (x, y) of the box where it is. */
    function zoom(factor, x = box.clientWidth / 2, y = box.clientHeight / 2) {
      const before = scale;
      const [left, top] = [box.scrollLeft, box.scrollTop];
      scale = Math.min(4, Math.max(0.1, factor));
      svg.style.width = Math.round(size.width * scale) + "px";
      svg.style.height = Math.round(size.height * scale) + "px";
      box.scrollLeft = ((left + x) * scale) / before - x;
      box.scrollTop = ((top + y) * scale) / before - y;
      onZoom(scale);
    }

    const across = () => (box.clientWidth - 2) / size.width;
    const zoomIn = () => zoom(scale * 1.25);
    const zoomOut = () => zoom(scale / 1.25);
    const fit = () => zoom(Math.min(1.5, across(), (box.clientHeight - 2) / size.height));

    /** Opens at a size that can be read, even if only a part is seen: fit shows the whole. */
    function open() {
      const start = Math.min(1, Math.max(0.7, across()));
      const most = Math.max(240, innerHeight * 0.46);
      // A scroll bar takes some of the height, and would bring a second one.
      const bar = size.width * start > box.clientWidth ? 18 : 2;
      box.style.height = Math.ceil(Math.min(size.height * start + bar, most)) + "px";
      zoom(start, 0, 0);
    }

    function reveal(row) {
      const outer = box.getBoundingClientRect();
      const inner = row.getBoundingClientRect();
      if (inner.left >= outer.left && inner.right <= outer.right && inner.top >= outer.top && inner.bottom <= outer.bottom) return;
      box.scrollBy({
        left: inner.left + inner.width / 2 - outer.left - outer.width / 2,
        top: inner.top + inner.height / 2 - outer.top - outer.height / 2,
        behavior: calm.matches ? "auto" : "smooth",
      });
    }

    // ---- keys ----

    function onKey(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "+" || event.key === "=") zoomIn();
      else if (event.key === "-") zoomOut();
      else if (event.key === "0") fit();
      else if (!onRowKey(event)) return;
      event.preventDefault();
    }

    function onRowKey(event) {
      const row = event.target.closest(".row");
      if (!row) return false;
      if (event.key === "Enter" || event.key === " ") onChoose(row.dataset.end);
      else if (event.key.startsWith("Arrow")) focus(rowToward(row, event.key));
      else if (event.key === "Home") focus(rows[0]);
      else if (event.key === "End") focus(rows[rows.length - 1]);
      else return false;
      return true;
    }

    function focus(row) {
      if (!row) return;
      row.focus({ preventScroll: true });
      reveal(row);
    }

    /** One row is in the tab order: the last one that was used. */
    function rove(row) {
      for (const other of rows) if (other.getAttribute("tabindex") === "0") other.setAttribute("tabindex", "-1");
      row.setAttribute("tabindex", "0");
    }

    /** The nearest row in a direction, as it is drawn. */
    function rowToward(row, key) {
      const from = row.getBoundingClientRect();
      const sideways = key === "ArrowLeft" || key === "ArrowRight";
      const sign = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
      let best = null;
      let least = Infinity;
      for (const other of rows) {
        const to = other.getBoundingClientRect();
        const [dx, dy] = [to.left - from.left, to.top - from.top];
        const ahead = sign * (sideways ? dx : dy);
        if (ahead <= 1) continue;
        const cost = ahead + 3 * Math.abs(sideways ? dy : dx);
        if (cost < least) [best, least] = [other, cost];
      }
      return best;
    }

    // ---- mouse ----

    /** Drags with the mouse; a finger or a pen scrolls the box by itself. */
    function startDrag(event) {
      if (event.pointerType !== "mouse" || event.button !== 0) return;
      drag = { x: event.clientX, y: event.clientY, left: box.scrollLeft, top: box.scrollTop, moved: false };
    }

    function moveDrag(event) {
      if (!drag) return;
      if (event.buttons === 0) return endDrag();
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      drag.moved = drag.moved || Math.abs(dx) + Math.abs(dy) > 5;
      if (!drag.moved) return;
      box.classList.add("dragging");
      box.scrollTo({ left: drag.left - dx, top: drag.top - dy, behavior: "instant" });
    }

    function endDrag() {
      box.classList.remove("dragging");
      // The click that ends a drag comes right after: it must not select.
      if (drag && drag.moved) setTimeout(() => { drag = null; });
      else drag = null;
    }

    const dragging = () => drag !== null && drag.moved;

    function onWheel(event) {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const place = box.getBoundingClientRect();
      zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - place.left, event.clientY - place.top);
    }

    function watch() {
      const rowAt = (event) => event.target.closest(".row");
      svg.addEventListener("pointerover", (e) => { if (!dragging()) light(rowAt(e) ? rowAt(e).dataset.end : resting); });
      svg.addEventListener("pointerleave", rest);
      // On the box: Chromium makes an svg that listens for focus a tab stop.
      box.addEventListener("focusin", (e) => {
        if (!rowAt(e)) return;
        rove(rowAt(e));
        light(rowAt(e).dataset.end);
      });
      box.addEventListener("focusout", rest);
      svg.addEventListener("click", (e) => { if (rowAt(e) && !dragging()) onChoose(rowAt(e).dataset.end); });
      box.addEventListener("keydown", onKey);
      box.addEventListener("pointerdown", startDrag);
      box.addEventListener("wheel", onWheel, { passive: false });
      addEventListener("pointermove", moveDrag);
      addEventListener("pointerup", endDrag);
    }

    prepare();
    open();
    watch();
    return { light, rest, filter, choose, zoomIn, zoomOut, fit, open };
  }

  root.palisade.map = map;
})(globalThis);
