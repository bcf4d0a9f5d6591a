"use strict";
/* Judges flows and lists peers from the data alone. No DOM here: node can run and test it. */
(function (root) {
  const PROTOCOLS = ["TCP", "UDP", "SCTP"];
  const EVERY_PORT = { portless: true, ranges: { TCP: [[1, 65535]], UDP: [[1, 65535]], SCTP: [[1, 65535]] } };

  /** What the reader can mend: it becomes {error}. */
  class Problem extends Error {}

  // ---- addresses ----

  function parseV4(text) {
    const parts = text.split(".");
    const good = parts.length === 4 && parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) < 256);
    return good ? parts.map(Number) : null;
  }

  function parseGroups(text) {
    if (text === "") return [];
    const bytes = [];
    const parts = text.split(":");
    for (let i = 0; i < parts.length; i++) {
      const tail = i === parts.length - 1 && parts[i].includes(".") ? parseV4(parts[i]) : null;
      if (tail) bytes.push(...tail);
      else if (/^[0-9a-f]{1,4}$/i.test(parts[i])) bytes.push(parseInt(parts[i], 16) >> 8, parseInt(parts[i], 16) & 255);
      else return null;
    }
    return bytes;
  }

  function parseV6(text) {
    const halves = text.split("::");
    if (!text.includes(":") || halves.length > 2) return null;
    if (halves.length === 2 && halves[0].includes(".")) return null;
    const [head, tail] = halves.map(parseGroups);
    if (!head || tail === null) return null;
    if (halves.length === 1) return head.length === 16 ? head : null;
    const gap = 16 - head.length - tail.length;
    return gap < 2 ? null : [...head, ...new Array(gap).fill(0), ...tail];
  }

  /** {family, bytes, key}, or null. An IPv4-mapped IPv6 address is the IPv4 address: so does the kernel. */
  function parseAddress(text) {
    let bytes = parseV4(text) || parseV6(text);
    if (!bytes) return null;
    if (isMapped(bytes)) bytes = bytes.slice(12);
    return { family: bytes.length === 4 ? "IPv4" : "IPv6", bytes, key: bytes.join(".") };
  }

  function isMapped(bytes) {
    return bytes.length === 16 && bytes[10] === 255 && bytes[11] === 255 && bytes.slice(0, 10).every((b) => b === 0);
  }

  function parseCidr(text) {
    const [ip, length] = text.split("/");
    const bytes = parseV4(ip) || parseV6(ip);
    if (!bytes) return null;
    const prefix = length === undefined ? bytes.length * 8 : Number(length);
    return isMapped(bytes) && prefix >= 96 ? { bytes: bytes.slice(12), prefix: prefix - 96 } : { bytes, prefix };
  }

  function contains(cidr, address) {
    if (!cidr || cidr.bytes.length !== address.bytes.length) return false;
    const whole = cidr.prefix >> 3;
    for (let i = 0; i < whole; i++) if (cidr.bytes[i] !== address.bytes[i]) return false;
    const mask = (0xff00 >> (cidr.prefix & 7)) & 255;
    return mask === 0 || (cidr.bytes[whole] & mask) === (address.bytes[whole] & mask);
  }

  // ---- port sets ----

  function hasPort(set, protocol, port) {
    if (protocol === "ICMP") return set.portless;
    return (set.ranges[protocol] || []).some(([low, high]) => low <= port && port <= high);
  }

  function mergeRanges(ranges) {
    const merged = [];
    for (const [low, high] of ranges.slice().sort((a, b) => a[0] - b[0])) {
      const last = merged[merged.length - 1];
      if (last && low <= last[1] + 1) last[1] = Math.max(last[1], high);
      else merged.push([low, high]);
    }
    return merged;
  }

  function commonRanges(left, right) {
    const common = [];
    for (const a of left) {
      for (const b of right) {
        const low = Math.max(a[0], b[0]);
        const high = Math.min(a[1], b[1]);
        if (low <= high) common.push([low, high]);
      }
    }
    return mergeRanges(common);
  }

  function spell(set) {
    const words = PROTOCOLS.filter((p) => set.ranges[p].length).map((p) => {
      const ports = set.ranges[p].map(([low, high]) => (low === high ? String(low) : low + "-" + high));
      return p + " " + ports.join(",");
    });
    if (set.portless) words.push("ICMP");
    return words.join(" ") || "no port";
  }

  /** Keeps one object per distinct set, so that sets compare by identity and each pair is worked out once. */
  function portPool(spelled) {
    const byKey = new Map();
    const results = new Map();
    let next = 0;

    function intern(raw, text) {
      const ranges = {};
      for (const p of PROTOCOLS) ranges[p] = mergeRanges(raw.ranges[p] || []);
      const key = JSON.stringify([Boolean(raw.portless), ranges]);
      if (!byKey.has(key)) {
        const set = { id: next++, portless: Boolean(raw.portless), ranges };
        set.empty = !set.portless && PROTOCOLS.every((p) => ranges[p].length === 0);
        set.text = text || spell(set);
        byKey.set(key, set);
      }
      return byKey.get(key);
    }

    function combine(name, left, right, ranges, portless) {
      const key = name + Math.min(left.id, right.id) + " " + Math.max(left.id, right.id);
      if (!results.has(key)) {
        const raw = { portless, ranges: {} };
        for (const p of PROTOCOLS) raw.ranges[p] = ranges(left.ranges[p], right.ranges[p]);
        results.set(key, intern(raw));
      }
      return results.get(key);
    }

    const every = intern(EVERY_PORT, "every port");
    const listed = spelled.map((s) => intern(s, s.text));
    return {
      every, listed, none: intern({ portless: false, ranges: {} }),
      union: (a, b) => (a === b ? a : combine("+", a, b, (x, y) => mergeRanges(x.concat(y)), a.portless || b.portless)),
      common: (a, b) => (a === b ? a : combine("&", a, b, commonRanges, a.portless && b.portless)),
    };
  }

  // ---- names ----

  function distance(a, b) {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
      }
      row = next;
    }
    return row[b.length];
  }

  function nearest(text, names) {
    let best = null;
    let least = Infinity;
    for (const name of names) {
      if (Math.abs(name.length - text.length) >= least) continue;
      const d = distance(text, name);
      if (d < least) [best, least] = [name, d];
    }
    return best;
  }

  // ---- the model ----

  function model(data) {
    const pool = portPool(data.portSets);
    const members = [];
    const blocks = [];
    const pods = new Map();
    const workloads = new Map();
    const nodes = new Map();
    const hostPods = new Map();
    const owners = new Map();
    index();

    function index() {
      data.workloads.forEach((w, i) => {
        if (!workloads.has(w.name)) workloads.set(w.name, i);
        for (const pod of w.pods) {
          if (!pods.has(pod.name)) pods.set(pod.name, { pod, workload: i });
        }
      });
      const found = [...pods.values()];
      for (const owner of found) if (!owner.pod.unclear) own(owner.pod.addresses, owner);
      for (const node of data.nodes) {
        nodes.set(node.name, node);
        for (const pod of node.pods) hostPods.set(pod.name, { node, pod });
        own(node.addresses, { node });
      }
      for (const owner of found) own(owner.pod.addresses, owner);
    }

    /** The first owner of an address is the one that answers: pods, then nodes, then pods whose IP it may no longer be. */
    function own(addresses, owner) {
      for (const text of addresses) {
        const address = parseAddress(text);
        if (address && !owners.has(address.key)) owners.set(address.key, owner);
      }
    }

    function peers(set) {
      if (!members[set]) members[set] = new Set(data.peerSets[set]);
      return members[set];
    }

    function rulesBlocks(rule) {
      if (!blocks[rule]) {
        blocks[rule] = (data.rules[rule].blocks || []).map((b) => ({ cidr: parseCidr(b.cidr), except: (b.except || []).map(parseCidr) }));
      }
      return blocks[rule];
    }

    /** An address that nobody knows (null) is matched by a rule for everyone only. */
    function ruleMatches(rule, address) {
      if (data.rules[rule].everyone) return true;
      return address !== null && rulesBlocks(rule).some((b) => contains(b.cidr, address) && !b.except.some((e) => contains(e, address)));
    }

    function ruleName(rule) {
      const r = data.rules[rule];
      return data.policies[r.policy] + " " + r.direction + "[" + r.index + "]";
    }

    // ---- ends ----

    function familiesOf(addresses) {
      const found = addresses.map(parseAddress).filter(Boolean).map((a) => a.family);
      return found.length ? [...new Set(found)] : null;
    }

    function clear(pod) {
      if (pod.unclear) throw new Problem(pod.name + ": two pods have its IP, or its status is old: ask palisade trace");
      return pod;
    }

    function podEnd(found, name, families) {
      return { kind: "pod", name, pod: clear(found.pod), workload: found.workload, families, address: null };
    }

    function nodeEnd(node, name, address, families) {
      return { kind: "node", name, node, address, families };
    }

    /** A pod on its node's network is the node, at the addresses that it has. */
    function hostEnd(host, name) {
      const addresses = clear(host.pod).addresses;
      return { kind: "node", name, node: host.node, address: null, addresses, families: familiesOf(addresses) };
    }

    function addressEnd(text, address) {
      const owner = owners.get(address.key);
      const families = [address.family];
      if (owner && owner.pod) return podEnd(owner, owner.pod.name, families);
      if (owner) return nodeEnd(owner.node, text, address, families);
      return { kind: "world", name: text, address, families };
    }

    function workloadEnd(i, ordinal) {
      const w = data.workloads[i];
      const pod = w.pods[Math.min(ordinal, w.pods.length - 1)];
      if (!pod) throw new Problem(w.name + " has no pod");
      return podEnd({ pod, workload: i }, pod.name, familiesOf(pod.addresses));
    }

    function resolve(text, isServer, ordinal) {
      const pod = pods.get(text);
      if (pod) return podEnd(pod, text, familiesOf(pod.pod.addresses));
      if (workloads.has(text)) return workloadEnd(workloads.get(text), ordinal);
      const host = hostPods.get(text);
      if (host) return hostEnd(host, text);
      const address = parseAddress(text);
      if (address) return addressEnd(text, address);
      if (text.startsWith("node/")) {
        if (isServer) throw new Problem(text + " cannot be the destination: name one of its addresses");
        // A node without pods is not in the data, and may be a client all the same.
        const name = text.slice(5);
        return nodeEnd(nodes.get(name) || { name, addresses: [] }, text, null, null);
      }
      throw new Problem(unknown(text));
    }

    function unknown(text) {
      if (text === "") return "name both ends: a workload, a pod, an IP or node/NAME";
      if (/^[0-9.]+$|^[0-9a-f.]*:[0-9a-f:.]*$/i.test(text)) return "not an IP address: " + text;
      const near = nearest(text, names());
      return "no workload, pod or node is named " + text + (near ? ": did you mean " + near + "?" : "");
    }

    let allNames = null;

    function names() {
      allNames = allNames || [...new Set([...workloads.keys(), ...pods.keys(), ...hostPods.keys(), ...[...nodes.keys()].map((n) => "node/" + n)])];
      return allNames;
    }

    function familyOf(client, server, asked) {
      const admits = (end, family) => !end.families || end.families.includes(family);
      if (asked) {
        for (const end of [client, server]) if (!admits(end, asked)) throw new Problem(end.name + " has no " + asked + " address");
        return asked;
      }
      const order = client.families || server.families;
      if (!order) return null;
      const family = order.find((f) => admits(server, f));
      if (!family) throw new Problem(client.name + " and " + server.name + " share no address family");
      return family;
    }

    function addressOf(end, family) {
      if (end.address || end.kind === "pod") return end.address;
      return (end.addresses || end.node.addresses).map(parseAddress).find((a) => a && (family === null || a.family === family)) || null;
    }

    // ---- one flow ----

    function allow(reason) { return { verdict: "allow", reason }; }
    function deny(reason) { return { verdict: "deny", reason }; }

    function isSame(flow) {
      if (flow.client.kind === "pod" || flow.server.kind === "pod") return flow.client.pod !== undefined && flow.client.pod === flow.server.pod;
      const [a, b] = [addressOf(flow.client, flow.family), addressOf(flow.server, flow.family)];
      return a !== null && b !== null && a.key === b.key;
    }

    function isOwnNode(end, pod) {
      return end.kind === "node" && Boolean(pod.node) && end.node.name === pod.node;
    }

    function judgeEgress(flow) {
      const { client, server } = flow;
      if (client.kind !== "pod") return allow(client.name + " is not a pod that policies select");
      const side = data.workloads[client.workload].egress;
      if (!side.isolatedBy.length) return allow("no policy isolates " + client.name + " for egress");
      if (data.allowEgressToOwnNode && isOwnNode(server, client.pod)) return allow("a pod may reach its own node here");
      return judgeSide(side, client, server, flow);
    }

    function judgeIngress(flow) {
      const { client, server } = flow;
      if (server.kind !== "pod") return allow(server.name + " is not a pod that policies select");
      const side = data.workloads[server.workload].ingress;
      if (!side.isolatedBy.length) return allow("no policy isolates " + server.name + " for ingress");
      if (isOwnNode(client, server.pod)) return allow("a node always reaches its own pods");
      return judgeSide(side, server, client, flow);
    }

    function entriesFor(side, peer, family) {
      if (peer.kind === "pod") {
        return side.grants.filter((g) => (g.family === null || g.family === family) && peers(g.peers).has(peer.workload));
      }
      const address = addressOf(peer, family);
      return side.addresses.filter((a) => ruleMatches(a.rule, address));
    }

    function judgeSide(side, self, peer, flow) {
      const entries = entriesFor(side, peer, flow.family);
      const passing = entries.filter((e) => hasPort(pool.listed[e.ports], flow.protocol, flow.port));
      if (passing.length) return allow("allowed by " + rulesText(passing.map((e) => e.rule), true));
      const isolated = self.name + " is isolated by " + side.isolatedBy.map((p) => data.policies[p]).join(", ");
      const ports = entries.reduce((set, e) => pool.union(set, pool.listed[e.ports]), pool.none);
      if (ports.empty) return deny(isolated + "; no rule allows " + peer.name);
      return deny(isolated + "; " + rulesText(entries.map((e) => e.rule), false) + " allows " + peer.name + " on " + ports.text + " only");
    }

    function rulesText(rules, withText) {
      return [...new Set(rules)].map((r) => ruleName(r) + (withText && data.rules[r].text ? " (" + data.rules[r].text + ")" : "")).join(", ");
    }

    function checkedPort(protocol, port) {
      const given = port !== undefined && port !== null && String(port).trim() !== "";
      if (protocol === "ICMP") return 0;
      if (!given) throw new Problem("name a port from 1 to 65535");
      const number = /^\d{1,5}$/.test(String(port).trim()) ? Number(port) : 0;
      if (number < 1 || number > 65535) throw new Problem("not a port from 1 to 65535: " + port);
      return number;
    }

    function readFlow(ask) {
      const protocol = String(ask.protocol || "TCP").toUpperCase();
      if (protocol !== "ICMP" && !PROTOCOLS.includes(protocol)) throw new Problem("not a protocol: " + ask.protocol);
      if (ask.family && ask.family !== "IPv4" && ask.family !== "IPv6") throw new Problem("not a family: " + ask.family);
      const port = checkedPort(protocol, ask.port);
      const from = String(ask.from || "").trim();
      const to = String(ask.to || "").trim();
      const client = resolve(from, false, 0);
      const server = resolve(to, true, from === to ? 1 : 0);
      return { client, server, protocol, port, family: familyOf(client, server, ask.family || null) };
    }

    function judge(ask) {
      try {
        const flow = readFlow(ask);
        const self = isSame(flow) ? allow("a pod always reaches itself") : null;
        const egress = self || judgeEgress(flow);
        const ingress = self || judgeIngress(flow);
        const verdict = egress.verdict === "allow" && ingress.verdict === "allow" ? "allow" : "deny";
        return { verdict, egress, ingress, from: flow.client.name, to: flow.server.name, family: flow.family };
      } catch (problem) {
        if (problem instanceof Problem) return { error: problem.message };
        throw problem;
      }
    }

    // ---- the peers of one workload ----

    const workloadFamilies = data.workloads.map(() => undefined);

    function familiesOfWorkload(i) {
      if (workloadFamilies[i] === undefined) workloadFamilies[i] = familiesOf(data.workloads[i].pods.flatMap((p) => p.addresses));
      return workloadFamilies[i];
    }

    function sharedFamilies(a, b) {
      const [left, right] = [familiesOfWorkload(a), familiesOfWorkload(b)];
      if (!left || !right) return left || right || [null];
      return left.filter((f) => right.includes(f));
    }

    /** What one end's policies allow with one peer in one family: the ports and the rules they come from. */
    function toward(i, direction, peer, family) {
      const side = data.workloads[i][direction];
      if (!side.isolatedBy.length) return { ports: pool.every, rules: [] };
      const grants = side.grants.filter((g) => (g.family === null || g.family === family) && peers(g.peers).has(peer));
      return { ports: grants.reduce((set, g) => pool.union(set, pool.listed[g.ports]), pool.none), rules: grants.map((g) => g.rule) };
    }

    function link(i, direction, peer) {
      const back = direction === "ingress" ? "egress" : "ingress";
      const result = { peer, ports: [], here: [], there: [], wanted: false };
      for (const family of sharedFamilies(i, peer)) {
        const here = toward(i, direction, peer, family);
        if (here.ports.empty) continue;
        result.wanted = true;
        const there = toward(peer, back, i, family);
        const ports = pool.common(here.ports, there.ports);
        result.here.push(...here.rules);
        result.there.push(...there.rules);
        if (!ports.empty) result.ports.push({ family, set: ports });
      }
      return finishLink(result, sharedFamilies(i, peer).length);
    }

    /** One line for both families where they agree, which is nearly always. */
    function finishLink(result, families) {
      const [first, second] = result.ports;
      const agree = first && result.ports.length === families && (!second || second.set === first.set);
      result.text = agree ? first.set.text : result.ports.map((p) => p.family + " " + p.set.text).join("; ");
      result.here = [...new Set(result.here)];
      result.there = [...new Set(result.there)];
      result.allowed = result.ports.length > 0;
      return result;
    }

    function peersOf(i, direction) {
      const links = data.workloads.map((w, peer) => (peer === i && w.pods.length < 2 ? null : link(i, direction, peer)));
      const known = links.filter((l) => l && l.wanted);
      return { allowed: known.filter((l) => l.allowed), denied: known.filter((l) => !l.allowed), candidates: links.filter(Boolean).map((l) => l.peer) };
    }

    /** Nodes with the ports that rules for addresses give them, by equal ports. Own nodes are told apart by the caller. */
    function nodesOf(i, direction) {
      const side = data.workloads[i][direction];
      const groups = new Map();
      for (const node of data.nodes) {
        const entries = side.addresses.filter((a) => node.addresses.map(parseAddress).some((ip) => ip && ruleMatches(a.rule, ip)));
        const ports = entries.reduce((set, e) => pool.union(set, pool.listed[e.ports]), pool.none);
        if (ports.empty) continue;
        if (!groups.has(ports)) groups.set(ports, { text: ports.text, nodes: [], rules: new Set() });
        groups.get(ports).nodes.push(node.name);
        for (const e of entries) groups.get(ports).rules.add(e.rule);
      }
      return [...groups.values()];
    }

    return { data, judge, peersOf, nodesOf, ruleName, names, portText: (index) => pool.listed[index].text };
  }

  /** Peers in as few lines as say the same: the whole cluster, whole namespaces, large parts of one, single ones. */
  function grouped(links, candidates, data) {
    if (!links.length) return [];
    const everyText = links.every((l) => l.text === links[0].text);
    if (links.length > 2 && everyText && links.length === candidates.length) return [{ label: "every workload (" + links.length + ")", links }];
    const totals = tally(candidates.map((peer) => data.workloads[peer].namespace));
    const groups = new Map();
    for (const l of links) {
      const namespace = data.workloads[l.peer].namespace;
      const key = JSON.stringify([namespace, l.text]);
      if (!groups.has(key)) groups.set(key, { namespace, links: [] });
      groups.get(key).links.push(l);
    }
    return [...groups.values()].flatMap((g) => lines(g, totals.get(g.namespace)));
  }

  function lines(group, total) {
    const count = group.links.length;
    if (count > 1 && count === total) return [{ label: "every workload of " + group.namespace + " (" + count + ")", links: group.links }];
    if (count > 4) return [{ label: count + " of the " + total + " workloads of " + group.namespace, links: group.links }];
    return group.links.map((l) => ({ label: null, links: [l] }));
  }

  function tally(values) {
    const counts = new Map();
    for (const v of values) counts.set(v, (counts.get(v) || 0) + 1);
    return counts;
  }

  root.palisade = { model, grouped };
})(globalThis);
