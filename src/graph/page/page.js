"use strict";
/* The page around the picture. Names come from a cluster: they only ever enter the page as text. */
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const model = palisade.model(data);
  palisade.judge = model.judge;

  const $ = (id) => document.getElementById(id);
  const state = { text: "", namespace: "", isolation: "", selected: null };
  const indexOf = new Map(data.workloads.map((w, i) => [w.name, i]));
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const narrow = matchMedia("(max-width: 859px)");
  let picture = null;

  /** Makes an element; strings among the children become text nodes. */
  function el(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  }

  const count = (n, one, many) => n + " " + (n === 1 ? one : many || one + "s");
  const isOpen = (w, direction) => w[direction].isolatedBy.length === 0;
  const hashOf = (name) => "#" + encodeURIComponent(name).replace(/%2F/g, "/");

  /** "open", "open in", "open out", or "" for a workload that is isolated both ways. */
  function openWord(w) {
    const [ingress, egress] = [isOpen(w, "ingress"), isOpen(w, "egress")];
    if (ingress && egress) return "open";
    return ingress ? "open in" : egress ? "open out" : "";
  }

  const stateWord = (w) => openWord(w) || "isolated";

  // ---- picture ----

  function workloadOf(end) {
    return /^w\d+$/.test(end) ? data.workloads[Number(end.slice(1))] : undefined;
  }

  function makePicture() {
    const svg = document.querySelector("svg.map");
    if (!svg) return null;
    const made = palisade.map({
      svg, box: $("box"), calm,
      namespaceOf: (end) => (workloadOf(end) ? workloadOf(end).namespace : null),
      labelOf: (end) => (workloadOf(end) ? workloadOf(end).name + ", " + stateWord(workloadOf(end)) : null),
      onChoose: (end) => { if (workloadOf(end)) choose(Number(end.slice(1))); },
      onZoom: (scale) => { $("zoom-level").textContent = Math.round(scale * 100) + "%"; },
    });
    $("zoom-in").addEventListener("click", made.zoomIn);
    $("zoom-out").addEventListener("click", made.zoomOut);
    $("zoom-fit").addEventListener("click", made.fit);
    return made;
  }

  function filterPicture(shown) {
    const alive = new Set(data.workloads.filter((w, i) => shown[i]).map((w) => "ns:" + w.namespace));
    picture.filter((end) => {
      if (workloadOf(end)) return shown[Number(end.slice(1))];
      return end.startsWith("ns:") ? alive.has(end) : undefined;
    });
  }

  // ---- header ----

  const namespaces = [...new Set(data.workloads.map((w) => w.namespace))].sort();

  function showHeader() {
    document.title = "Who may talk to whom: " + data.source;
    $("source").textContent = data.source;
    const facts = [
      [data.workloads.length, "workloads"], [namespaces.length, "namespaces"], [data.policies.length, "policies"],
      [data.workloads.filter((w) => isOpen(w, "ingress")).length, "open in"],
      [data.workloads.filter((w) => isOpen(w, "egress")).length, "open out"],
    ];
    $("counts").append(...facts.map(([n, word]) =>
      el("div", { className: word.startsWith("open") && n ? "is-open" : "" }, el("dt", {}, word), el("dd", {}, String(n)))));
    $("namespace").append(...namespaces.map((n) => el("option", { value: n }, n)));
  }

  // ---- filters ----

  let haystacks = null;

  /** What a search looks through: names, pods, nodes and addresses; made at the first search. */
  function haystack(i) {
    haystacks = haystacks || data.workloads.map((w) =>
      [w.name, ...w.pods.flatMap((p) => [p.name, p.node, ...p.addresses])].join("\n").toLowerCase());
    return haystacks[i];
  }

  function matches(w, i) {
    if (state.namespace && w.namespace !== state.namespace) return false;
    if (state.isolation === "none" && openWord(w)) return false;
    if (state.isolation === "in" && !isOpen(w, "ingress")) return false;
    if (state.isolation === "out" && !isOpen(w, "egress")) return false;
    return state.text.split(/\s+/).every((word) => !word || haystack(i).includes(word));
  }

  function filter() {
    state.text = $("search").value.trim().toLowerCase();
    state.namespace = $("namespace").value;
    state.isolation = $("isolation").value;
    const active = Boolean(state.text || state.namespace || state.isolation);
    const shown = data.workloads.map(matches);
    const total = shown.filter(Boolean).length;
    $("found").textContent = active ? total + " of " + data.workloads.length + " shown" : "";
    filterList(shown);
    if (picture) filterPicture(shown);
  }

  function reset() {
    for (const id of ["search", "namespace", "isolation"]) $(id).value = "";
    filter();
    if (state.selected !== null) choose(null);
    if (picture) picture.open();
  }

  // ---- list ----

  const items = [];
  let none = null;

  function showList() {
    const byNamespace = new Map(namespaces.map((n) => [n, []]));
    data.workloads.forEach((w, i) => byNamespace.get(w.namespace).push(i));
    const groups = [...byNamespace].map(([name, members]) => {
      members.sort((a, b) => (data.workloads[a].name < data.workloads[b].name ? -1 : 1));
      return el("section", {}, el("h2", {}, name, el("span", {}, String(members.length))), el("ul", {}, ...members.map(listItem)));
    });
    none = el("p", { className: "none", hidden: true }, "No workload matches.");
    $("list").append(...groups, none);
    if (items.length) items[0].tabIndex = 0;
  }

  function shortName(w) {
    return w.name.startsWith(w.namespace + "/") ? w.name.slice(w.namespace.length + 1) : w.name;
  }

  function listItem(i) {
    const w = data.workloads[i];
    const word = openWord(w);
    const button = el("button", { type: "button", className: "item", tabIndex: -1, "data-workload": w.name, "aria-label": w.name + ", " + stateWord(w) },
      el("span", { className: word ? "shape open" : "shape" }), el("span", { className: "name" }, shortName(w)), word ? tag(word) : null);
    button.workload = i;
    items.push(button);
    return el("li", {}, button);
  }

  function tag(word) {
    return el("span", { className: "tag" }, word);
  }

  function filterList(shown) {
    for (const item of items) item.parentNode.hidden = !shown[item.workload];
    for (const section of $("list").querySelectorAll("section")) section.hidden = !section.querySelector("li:not([hidden])");
    none.hidden = shown.some(Boolean);
    const visible = visibleItems();
    if (visible.length && !visible.some((item) => item.tabIndex === 0)) rove(visible[0]);
  }

  function visibleItems() {
    return items.filter((item) => !item.parentNode.hidden);
  }

  /** One item of the list is in the tab order; the arrows move which. */
  function rove(item) {
    for (const other of items) if (other.tabIndex === 0) other.tabIndex = -1;
    item.tabIndex = 0;
  }

  function listKey(event) {
    const visible = visibleItems();
    const at = visible.indexOf(document.activeElement);
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: visible.length - 1 };
    if (!(event.key in targets) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const target = visible[Math.max(0, Math.min(visible.length - 1, targets[event.key]))];
    if (target) target.focus();
  }

  // ---- selection ----

  /** The address bar holds the selection, so that a link shares it and Back undoes it. */
  function choose(i) {
    if (i === state.selected) {
      bringDetails();
      $("details").focus({ preventScroll: narrow.matches });
    } else if (i !== null) location.hash = hashOf(data.workloads[i].name);
    else {
      history.pushState(null, "", location.pathname + location.search);
      readHash();
    }
  }

  function readHash() {
    const name = decode(location.hash.slice(1));
    const i = indexOf.get(name);
    // A skip link changes the hash too; it must not drop the selection. Names of workloads have a slash.
    if (i === undefined && name && !name.includes("/")) return;
    if (i === undefined || i !== state.selected) show(i === undefined ? null : i);
  }

  function decode(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  function show(i) {
    const details = $("details");
    const inside = details.contains(document.activeElement);
    markItem(state.selected, i);
    state.selected = i;
    if (picture) picture.choose(i === null ? null : "w" + i);
    details.replaceChildren(...(i === null ? emptyDetails() : fullDetails(i)).filter(Boolean));
    // The link or button that was used is gone: keep the keyboard where it was.
    if (inside) details.focus({ preventScroll: true });
    if (i !== null) bringDetails();
  }

  function bringDetails() {
    if (narrow.matches) $("details").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  }

  function markItem(before, now) {
    const itemOf = (i) => items.find((item) => item.workload === i);
    if (itemOf(before)) itemOf(before).removeAttribute("aria-current");
    const item = itemOf(now);
    if (!item) return;
    item.setAttribute("aria-current", "true");
    rove(item);
    scrollListTo(item);
  }

  /** Scrolls the list only, never the page. */
  function scrollListTo(item) {
    const list = $("list");
    const [outer, inner] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
    if (inner.top < outer.top + 28 || inner.bottom > outer.bottom) list.scrollTop += inner.top - outer.top - outer.height / 3;
  }

  // ---- details ----

  function emptyDetails() {
    const name = decode(location.hash.slice(1));
    return [el("h2", { id: "details-title" }, "Details"),
      name.includes("/") ? el("p", { className: "missing" }, "No workload is named ", el("span", { className: "mono" }, name), ".") : null,
      el("p", { className: "hint" }, "Select a workload to see who may reach it, whom it may reach, and by which policy rules."),
      el("p", { className: "hint" }, "Keys: ", el("kbd", {}, "/"), " search, ", el("kbd", {}, "↑"), " ", el("kbd", {}, "↓"), " move, ",
        el("kbd", {}, "Enter"), " select, again: go to the details, ", el("kbd", {}, "Esc"), " clear.")];
  }

  function fullDetails(i) {
    const w = data.workloads[i];
    const word = openWord(w);
    const head = el("div", { className: "bar" },
      el("h2", { id: "details-title", className: "mono" }, w.name), word ? tag(word) : null,
      el("div", { className: "actions" },
        action("What if from it…", () => fill({ from: w.name })), action("What if to it…", () => fill({ to: w.name })),
        action("Clear", () => choose(null))));
    return [head, el("div", { className: "three" }, side(i, "ingress"), middle(w), side(i, "egress"))];
  }

  function action(text, run) {
    const button = el("button", { type: "button" }, text);
    button.addEventListener("click", run);
    return button;
  }

  function side(i, direction) {
    const into = direction === "ingress";
    const { allowed, denied, candidates } = model.peersOf(i, direction);
    const section = el("section", { className: "side-part " + direction, "aria-labelledby": direction + "-title" },
      el("h3", { id: direction + "-title" }, into ? "Ingress" : "Egress", el("span", {}, into ? "who may reach it" : "whom it may reach")),
      el("h4", {}, "Workloads", el("span", {}, String(allowed.length))),
      allowed.length ? peerList(allowed, candidates, i, direction) : el("p", { className: "hint" }, "No workload."));
    if (denied.length) section.append(deniedPart(denied, candidates, i, direction));
    section.append(el("h4", {}, "Nodes"), nodePart(i, direction), el("h4", {}, "World: addresses that are no pod's"), worldPart(i, direction));
    return section;
  }

  function peerList(links, candidates, i, direction) {
    return el("ul", { className: "peers" }, ...palisade.grouped(links, candidates, data).map((g) => (g.label ? peerGroup(g, i, direction) : peerLine(g.links[0], i, direction))));
  }

  /** A group's lines are made when it is opened. */
  function peerGroup(group, i, direction) {
    // What all share stands in the summary: the lines then only name the peers.
    const back = direction === "ingress" ? "egress" : "ingress";
    const rulesOf = (l) => JSON.stringify([l.here, l.there, isOpen(data.workloads[l.peer], back)]);
    const alike = group.links.every((l) => rulesOf(l) === rulesOf(group.links[0]));
    const summary = el("summary", {}, el("span", { className: "peer" }, group.label), portsCell(group.links[0]), byCell(group.links, i, direction));
    return el("li", {}, lazy(summary, () => el("ul", { className: "peers" }, ...group.links.map((l) => peerLine(l, i, direction, alike)))));
  }

  function lazy(summary, make) {
    const box = el("details", {}, summary);
    box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(make()); });
    return box;
  }

  function peerLine(link, i, direction, short) {
    const peer = data.workloads[link.peer];
    const label = link.peer === i ? peer.name + " (its other pods)" : peer.name;
    const ask = action("what if…", () => fill(flowOf(link, i, direction)));
    ask.setAttribute("aria-label", "what if… " + peer.name);
    const name = el("a", { className: "peer", href: hashOf(peer.name) }, label);
    return short ? el("li", { className: "line short" }, name, ask) : el("li", { className: "line" }, name, portsCell(link),
      byCell([link], i, direction), ask);
  }

  function portsCell(link) {
    return el("span", { className: "ports" }, link.text || "denied");
  }

  /** The rules of this end, then of the other: both must allow a flow. */
  function byCell(links, i, direction) {
    const back = direction === "ingress" ? "egress" : "ingress";
    const here = isOpen(data.workloads[i], direction) ? "here: not isolated" : "by " + ruleNames(links.flatMap((l) => l.here));
    const open = links.filter((l) => isOpen(data.workloads[l.peer], back)).length;
    const rules = ruleNames(links.flatMap((l) => l.there)) + (links[0].allowed ? "" : " on other ports");
    const some = links.some((l) => l.there.length);
    const there = [some ? rules : "", open ? (open === links.length ? "" : open + " ") + "not isolated" : ""].filter(Boolean).join(", ") || "isolated, no rule";
    return el("span", { className: "by" }, el("span", {}, here), " ", el("span", {}, (links.length > 1 ? "peers: " : "peer: ") + there));
  }

  function ruleNames(rules) {
    const names = [...new Set(rules)].map(model.ruleName);
    return names.length > 4 ? names.slice(0, 3).join(", ") + " and " + (names.length - 3) + " more" : names.join(", ");
  }

  function flowOf(link, i, direction) {
    const [self, peer] = [data.workloads[i].name, data.workloads[link.peer].name];
    const ends = direction === "ingress" ? { from: peer, to: self } : { from: self, to: peer };
    return { ...ends, ...firstPort(link) };
  }

  function firstPort(link) {
    if (!link.ports.length) return {};
    const { ranges, portless } = link.ports[0].set;
    const protocol = ["TCP", "UDP", "SCTP"].find((p) => ranges[p].length);
    if (protocol) return { protocol, port: ranges[protocol][0][0] === 1 ? "" : ranges[protocol][0][0] };
    return portless ? { protocol: "ICMP", port: "" } : {};
  }

  function deniedPart(denied, candidates, i, direction) {
    const summary = el("summary", {}, el("span", {}, "Allowed here, denied by the other end (" + denied.length + ")"));
    const box = lazy(summary, () => peerList(denied, candidates, i, direction));
    box.className = "denied";
    return box;
  }

  function nodePart(i, direction) {
    const w = data.workloads[i];
    const own = [...new Set(w.pods.map((p) => p.node).filter(Boolean))];
    if (isOpen(w, direction)) return el("ul", { className: "peers" }, plainLine("any node", "every port", "not isolated"));
    const list = model.nodesOf(i, direction).map((g) =>
      plainLine(shortList(g.nodes), g.text, "by " + ruleNames([...g.rules])));
    if (direction === "ingress") list.unshift(plainLine("own node" + (own.length ? ": " + shortList(own) : ""), "every port", "always: a node reaches its own pods"));
    if (direction === "egress" && data.allowEgressToOwnNode) list.unshift(plainLine("own node" + (own.length ? ": " + shortList(own) : ""), "every port", "always: egress to the own node is allowed"));
    return list.length ? el("ul", { className: "peers" }, ...list) : el("p", { className: "hint" }, "No node.");
  }

  function shortList(names) {
    return names.length > 6 ? names.slice(0, 5).join(", ") + " and " + (names.length - 5) + " more" : names.join(", ");
  }

  function plainLine(name, ports, by) {
    return el("li", { className: "line" }, el("span", { className: "peer" }, name), el("span", { className: "ports" }, ports), el("span", { className: "by" }, by));
  }

  function worldPart(i, direction) {
    const w = data.workloads[i];
    if (isOpen(w, direction)) return el("ul", { className: "peers" }, plainLine("any address", "every port", "not isolated"));
    const list = w[direction].addresses.flatMap((a) => worldLines(data.rules[a.rule], model.portText(a.ports), "by " + model.ruleName(a.rule)));
    return list.length ? el("ul", { className: "peers" }, ...list) : el("p", { className: "hint" }, "No address.");
  }

  function worldLines(rule, ports, by) {
    if (rule.everyone) return [plainLine("any address", ports, by)];
    return rule.blocks.map((b) => plainLine(b.cidr + (b.except && b.except.length ? " except " + b.except.join(", ") : ""), ports, by));
  }

  function middle(w) {
    return el("section", { className: "middle", "aria-labelledby": "workload-title" },
      el("h3", { id: "workload-title" }, "Workload", el("span", {}, count(w.pods.length, "pod"))),
      el("h4", {}, "Isolation"), el("dl", { className: "isolation" }, ...isolation(w, "ingress"), ...isolation(w, "egress")),
      el("h4", {}, "Rules that apply"), ruleList(w),
      el("h4", {}, "Pods"), podTable(w));
  }

  function isolation(w, direction) {
    const by = w[direction].isolatedBy.map((p) => data.policies[p]);
    return [el("dt", {}, direction),
      by.length ? el("dd", {}, "isolated by ", el("span", { className: "mono" }, by.join(", "))) : el("dd", {}, tag("open"), " not isolated: no policy selects it")];
  }

  function ruleList(w) {
    const rules = data.rules.map((r, i) => [r, i]).filter(([r]) => w[r.direction].isolatedBy.includes(r.policy));
    if (!rules.length) return el("p", { className: "hint" }, openWord(w) === "open" ? "No policy selects it." : "No rule: the policies allow nothing.");
    return el("ul", { className: "rules" }, ...rules.map(([r, i]) => el("li", {}, el("span", { className: "mono" }, model.ruleName(i)), el("span", {}, r.text))));
  }

  function podTable(w) {
    const rowsOf = (pods) => pods.map((p) => el("tr", {},
      el("th", { scope: "row" }, p.name.slice(p.name.indexOf("/") + 1), p.unclear ? el("span", { className: "tag", title: "two pods have its IP, or its status is old" }, "unclear") : null),
      el("td", {}, p.node || "no node"), el("td", {}, ...p.addresses.map((a) => el("div", {}, a)), p.addresses.length ? null : "no address")));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...["pod", "node", "addresses"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, ...rowsOf(w.pods.slice(0, 20))));
    const rest = w.pods.length - 20;
    const more = rest > 0 ? action("Show " + rest + " more", () => { table.tBodies[0].append(...rowsOf(w.pods.slice(20))); more.remove(); }) : null;
    return el("div", { className: "pods" }, table, more);
  }

  // ---- what if ----

  function fill(values) {
    for (const [id, value] of Object.entries(values)) $(id).value = value;
    protocolChanged();
    $("answer").replaceChildren();
    $("what-if").scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
    const gap = ["from", "to", "port"].find((id) => !$(id).value && !$(id).disabled);
    if (!gap) answer();
    $(gap || "ask").focus({ preventScroll: true });
  }

  function protocolChanged() {
    $("port").disabled = $("protocol").value === "ICMP";
    $("port").placeholder = $("port").disabled ? "none" : "443";
  }

  /** Suggestions are made when the form is first used: thousands of pods would slow the first paint. */
  function suggest() {
    if ($("clients").firstChild) return;
    const ends = model.names();
    $("clients").append(...ends.map((name) => el("option", { value: name })));
    $("servers").append(...ends.filter((name) => !name.startsWith("node/")).map((name) => el("option", { value: name })));
  }

  function answer() {
    const icmp = $("protocol").value === "ICMP";
    const ask = { from: $("from").value, to: $("to").value, protocol: $("protocol").value, port: icmp ? null : $("port").value, family: $("family").value || null };
    const result = model.judge(ask);
    $("answer").replaceChildren(...(result.error ? [el("p", { className: "error" }, el("b", {}, "Not judged"), result.error)] : verdict(result, ask)));
  }

  function verdict(result, ask) {
    const what = ask.protocol + (ask.port === null ? "" : " " + Number(ask.port)) + (result.family ? ", " + result.family : "");
    return [el("p", { className: "verdict " + result.verdict }, el("b", {}, result.verdict === "allow" ? "✓ ALLOWED" : "✕ DENIED"),
      el("span", { className: "mono" }, result.from + " → " + result.to), el("span", { className: "mono" }, what)),
    el("dl", {}, ...reason("egress", result.egress), ...reason("ingress", result.ingress))];
  }

  function reason(direction, part) {
    return [el("dt", {}, direction), el("dd", { className: part.verdict }, el("b", {}, part.verdict === "allow" ? "✓ allowed" : "✕ denied"), el("span", {}, part.reason))];
  }

  // ---- wiring ----

  function pageKey(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      $("search").focus();
      $("search").select();
    } else if (event.key === "Escape" && event.target === $("search") && $("search").value) {
      event.preventDefault();
      $("search").value = "";
      filter();
    } else if (event.key === "Escape" && !typing && state.selected !== null) choose(null);
  }

  function watch() {
    for (const id of ["search", "namespace", "isolation"]) $(id).addEventListener("input", filter);
    $("reset").addEventListener("click", reset);
    $("search").addEventListener("keydown", (e) => {
      const first = e.key === "ArrowDown" || e.key === "Enter" ? visibleItems()[0] : null;
      if (first) { e.preventDefault(); first.focus(); }
    });
    const list = $("list");
    list.addEventListener("keydown", listKey);
    list.addEventListener("click", (e) => {
      const item = e.target.closest(".item");
      if (item) choose(item.workload);
    });
    list.addEventListener("focusin", (e) => {
      if (e.target.workload === undefined) return;
      rove(e.target);
      if (picture) picture.light("w" + e.target.workload);
    });
    list.addEventListener("pointerover", (e) => {
      const item = e.target.closest(".item");
      if (picture && item) picture.light("w" + item.workload);
    });
    for (const type of ["pointerleave", "focusout"]) list.addEventListener(type, () => picture && picture.rest());
    $("flow").addEventListener("focusin", suggest);
    $("flow").addEventListener("submit", (e) => { e.preventDefault(); answer(); });
    $("protocol").addEventListener("input", protocolChanged);
    $("swap").addEventListener("click", () => {
      [$("from").value, $("to").value] = [$("to").value, $("from").value];
      if ($("answer").firstChild) answer();
    });
    addEventListener("keydown", pageKey);
    addEventListener("hashchange", readHash);
    addEventListener("popstate", readHash);
  }

  showHeader();
  showList();
  picture = makePicture();
  watch();
  protocolChanged();
  filter();
  show(indexOf.get(decode(location.hash.slice(1))) ?? null);
})();
