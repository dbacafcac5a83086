/* A small crystal viewer on a 2D canvas: spheres, bonds and cell edges, sorted by depth. No library. */
(function () {
  "use strict";

  var EDGES = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];

  function toCartesian(cell, f) {
    return [0, 1, 2].map(function (k) { return f[0] * cell[0][k] + f[1] * cell[1][k] + f[2] * cell[2][k]; });
  }

  /* All atoms of n x n x n cells, those on the faces drawn on both sides. */
  function buildAtoms(data, n) {
    var atoms = [], eps = 0.01, a, b, c;
    data.sites.forEach(function (site) {
      for (a = -1; a <= n; a++) for (b = -1; b <= n; b++) for (c = -1; c <= n; c++) {
        var f = [site[1] + a, site[2] + b, site[3] + c];
        if (f.every(function (v) { return v > -eps && v < n + eps; })) atoms.push({ s: site[0], p: toCartesian(data.cell, f) });
      }
    });
    return atoms;
  }

  function buildBonds(data, atoms) {
    var limit = {}, bonds = [], i, j;
    data.bonds.forEach(function (b) { limit[b[0] + "," + b[1]] = limit[b[1] + "," + b[0]] = b[2]; });
    for (i = 0; i < atoms.length; i++) for (j = i + 1; j < atoms.length; j++) {
      var longest = limit[atoms[i].s + "," + atoms[j].s];
      if (!longest) continue;
      var p = atoms[i].p, q = atoms[j].p, dx = p[0] - q[0], dy = p[1] - q[1], dz = p[2] - q[2];
      var d2 = dx * dx + dy * dy + dz * dz;
      if (d2 < longest * longest && d2 > 0.09) bonds.push([i, j]);
    }
    return bonds;
  }

  function buildEdges(data, n) {
    var corners = [0, 1, 2, 3, 4, 5, 6, 7].map(function (k) { return [k & 1, (k >> 1) & 1, (k >> 2) & 1]; });
    var edges = [], a, b, c;
    for (a = 0; a < n; a++) for (b = 0; b < n; b++) for (c = 0; c < n; c++) EDGES.forEach(function (e) {
      edges.push(e.map(function (k) {
        return toCartesian(data.cell, [corners[k][0] + a, corners[k][1] + b, corners[k][2] + c]);
      }));
    });
    return edges;
  }

  /* A shaded sphere drawn once per species and scaled afterwards: gradients are the dear part of a frame. */
  function sphere(species, accent) {
    var size = 96, c = document.createElement("canvas"), g = c.getContext("2d"), r = size / 2 - 6, m = size / 2;
    c.width = c.height = size;
    if (species.mobile) {
      g.strokeStyle = accent; g.lineWidth = 6;
      g.beginPath(); g.arc(m, m, r + 2, 0, 2 * Math.PI); g.stroke();
    }
    var shade = g.createRadialGradient(m - r * 0.35, m - r * 0.4, r * 0.1, m, m, r);
    shade.addColorStop(0, mix(species.colour, "#ffffff", 0.65));
    shade.addColorStop(0.55, species.colour);
    shade.addColorStop(1, mix(species.colour, "#000000", 0.45));
    g.fillStyle = shade;
    g.beginPath(); g.arc(m, m, species.mobile ? r - 2 : r, 0, 2 * Math.PI); g.fill();
    if (!species.mobile) { g.strokeStyle = "rgba(0,0,0,.45)"; g.lineWidth = 1.5; g.stroke(); }
    return { image: c, ratio: size / (2 * r) };
  }

  function mix(a, b, t) {
    var out = "#";
    for (var k = 1; k < 7; k += 2) {
      var v = Math.round(parseInt(a.substr(k, 2), 16) * (1 - t) + parseInt(b.substr(k, 2), 16) * t);
      out += ("0" + v.toString(16)).slice(-2);
    }
    return out;
  }

  function multiply(m, n) {
    return m.map(function (row) {
      return [0, 1, 2].map(function (k) { return row[0] * n[0][k] + row[1] * n[1][k] + row[2] * n[2][k]; });
    });
  }

  function turn(ax, ay) {
    var ca = Math.cos(ax), sa = Math.sin(ax), cb = Math.cos(ay), sb = Math.sin(ay);
    return multiply([[1, 0, 0], [0, ca, -sa], [0, sa, ca]], [[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]]);
  }

  function Viewer(canvas, data) {
    this.canvas = canvas; this.data = data; this.zoom = 1; this.cells = 1; this.pending = false;
    this.rotation = turn(-1.2, 0.35);
    this.rotation = multiply(this.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]]);
    this.build(); this.listen(); this.draw();
  }

  Viewer.prototype.build = function () {
    this.atoms = buildAtoms(this.data, this.cells);
    this.bonds = buildBonds(this.data, this.atoms);
    this.edges = buildEdges(this.data, this.cells);
    var half = toCartesian(this.data.cell, [this.cells / 2, this.cells / 2, this.cells / 2]);
    this.centre = half;
    this.reach = 0;
    var self = this;
    this.edges.concat(this.atoms.map(function (a) { return [a.p]; })).forEach(function (points) {
      points.forEach(function (p) {
        self.reach = Math.max(self.reach, Math.hypot(p[0] - half[0], p[1] - half[1], p[2] - half[2]));
      });
    });
    this.reach += 1.0;
  };

  Viewer.prototype.project = function (p) {
    var r = this.rotation, c = this.centre, x = p[0] - c[0], y = p[1] - c[1], z = p[2] - c[2];
    var v = r.map(function (row) { return row[0] * x + row[1] * y + row[2] * z; });
    var depth = 1 / (1 - v[2] / (7 * this.reach));  /* mild perspective: near things a little larger */
    return [v[0] * depth, -v[1] * depth, v[2], depth];
  };

  Viewer.prototype.draw = function () {
    var canvas = this.canvas, box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    var width = box.width || canvas.width, height = box.height || canvas.height, self = this;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    var g = canvas.getContext("2d"), style = getComputedStyle(canvas), items = [];
    var scale = 0.47 * Math.min(width, height) / this.reach * this.zoom;
    var edge = style.getPropertyValue("--edge").trim() || "#777", accent = style.getPropertyValue("--mobile").trim() || "#c2410c";
    this.sprites = this.data.species.map(function (s) { return sphere(s, accent); });
    g.setTransform(ratio, 0, 0, ratio, width / 2 * ratio, height / 2 * ratio);
    g.clearRect(-width, -height, 2 * width, 2 * height);
    g.lineCap = "round";
    var seen = this.atoms.map(function (a) { return self.project(a.p); });
    this.edges.forEach(function (e) { self.pushEdge(items, e); });
    this.bonds.forEach(function (b) { self.pushBond(items, b, seen); });
    seen.forEach(function (p, i) { items.push({ z: p[2], atom: i, p: p }); });
    items.sort(function (a, b) { return a.z - b.z; });
    items.forEach(function (item) {
      if (item.atom !== undefined) {
        var s = self.atoms[item.atom].s, sprite = self.sprites[s];
        var d = 2 * 0.4 * self.data.species[s].radius * scale * item.p[3] * sprite.ratio;
        g.drawImage(sprite.image, item.p[0] * scale - d / 2, item.p[1] * scale - d / 2, d, d);
        return;
      }
      g.strokeStyle = item.colour || edge;
      g.lineWidth = item.width ? Math.max(1.2, item.width * scale) : 1;
      g.beginPath(); g.moveTo(item.a[0] * scale, item.a[1] * scale); g.lineTo(item.b[0] * scale, item.b[1] * scale); g.stroke();
    });
  };

  /* Edges are cut in pieces so that atoms can stand in front of one part and behind another. */
  Viewer.prototype.pushEdge = function (items, e) {
    for (var k = 0; k < 6; k++) {
      var ends = [k / 6, (k + 1) / 6].map(function (t) { return e[0].map(function (v, i) { return v + t * (e[1][i] - v); }); });
      var a = this.project(ends[0]), b = this.project(ends[1]);
      items.push({ z: (a[2] + b[2]) / 2, a: a, b: b });
    }
  };

  Viewer.prototype.pushBond = function (items, bond, seen) {
    var i = bond[0], j = bond[1], p = this.atoms[i].p, q = this.atoms[j].p, self = this;
    var middle = this.project([(p[0] + q[0]) / 2, (p[1] + q[1]) / 2, (p[2] + q[2]) / 2]);
    [i, j].forEach(function (k) {
      var species = self.data.species[self.atoms[k].s];
      var thin = self.data.species[self.atoms[i].s].mobile || self.data.species[self.atoms[j].s].mobile;
      items.push({ z: (seen[k][2] + middle[2]) / 2, a: seen[k], b: middle, colour: mix(species.colour, "#000000", 0.12), width: thin ? 0.07 : 0.2 });
    });
  };

  Viewer.prototype.refresh = function () {
    var self = this;
    if (this.pending) return;
    this.pending = true;
    window.requestAnimationFrame(function () { self.pending = false; self.draw(); });
  };

  Viewer.prototype.spin = function (dx, dy) { this.rotation = multiply(turn(dy, dx), this.rotation); this.refresh(); };
  Viewer.prototype.scaleBy = function (factor) { this.zoom = Math.min(8, Math.max(0.4, this.zoom * factor)); this.refresh(); };
  Viewer.prototype.supercell = function (n) { this.cells = n; this.build(); this.refresh(); };

  Viewer.prototype.listen = function () {
    var self = this, canvas = this.canvas, touches = {}, gap = 0;
    canvas.addEventListener("pointerdown", function (e) { touches[e.pointerId] = e; gap = 0; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", function (e) {
      var old = touches[e.pointerId], ids = Object.keys(touches);
      if (!old) return;
      touches[e.pointerId] = e;
      if (ids.length === 1) self.spin((e.clientX - old.clientX) * 0.01, (e.clientY - old.clientY) * 0.01);
      else {
        var a = touches[ids[0]], b = touches[ids[1]], now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (gap) self.scaleBy(now / gap);
        gap = now;
      }
    });
    ["pointerup", "pointercancel"].forEach(function (name) {
      canvas.addEventListener(name, function (e) { delete touches[e.pointerId]; gap = 0; });
    });
    canvas.addEventListener("wheel", function (e) { e.preventDefault(); self.scaleBy(Math.exp(-e.deltaY * 0.0015)); }, { passive: false });
    canvas.addEventListener("keydown", function (e) {
      var step = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] }[e.key];
      if (step) self.spin(step[0], step[1]);
      else if (e.key === "+" || e.key === "=") self.scaleBy(1.15);
      else if (e.key === "-") self.scaleBy(1 / 1.15);
      else return;
      e.preventDefault();
    });
  };

  var viewers = [];
  document.querySelectorAll("canvas[data-crystal]").forEach(function (canvas) {
    var source = document.getElementById(canvas.getAttribute("data-crystal"));
    if (source) viewers.push(new Viewer(canvas, JSON.parse(source.textContent)));
  });
  document.querySelectorAll("button[data-supercell]").forEach(function (button) {
    button.addEventListener("click", function () {
      var canvas = document.getElementById(button.getAttribute("data-supercell"));
      var viewer = viewers.filter(function (v) { return v.canvas === canvas; })[0], big = viewer.cells === 1;
      viewer.supercell(big ? 2 : 1);
      button.setAttribute("aria-pressed", String(big));
      button.textContent = big ? "one cell" : "2 × 2 × 2 cells";
    });
  });
  function redraw() { viewers.forEach(function (v) { v.refresh(); }); }
  window.addEventListener("resize", redraw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", function () { viewers.forEach(function (v) { v.draw(); }); });
})();
