/* Sorting and filtering of the candidate table. */
(function () {
  "use strict";
  var table = document.getElementById("candidates");
  if (!table) return;
  var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows);
  var words = document.getElementById("filter-words"), stage = document.getElementById("filter-stage"), count = document.getElementById("filter-count");

  function filter() {
    var wanted = words.value.trim().toLowerCase().split(/\s+/), shown = 0;
    rows.forEach(function (row) {
      var text = row.getAttribute("data-words"), ok = !stage.value || row.getAttribute("data-stage") === stage.value;
      ok = ok && wanted.every(function (w) { return text.indexOf(w) >= 0; });
      row.hidden = !ok;
      if (ok) shown += 1;
    });
    count.textContent = shown + " of " + rows.length + " shown";
  }

  /* Numbers by size, words by alphabet, empty cells always last. */
  function compare(a, b, column, sign) {
    var x = a.cells[column].getAttribute("data-sort"), y = b.cells[column].getAttribute("data-sort");
    if (x === "" || y === "") return (x === "") - (y === "");
    var p = Number(x), q = Number(y);
    return sign * (isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q);
  }

  table.querySelectorAll("thead button").forEach(function (button) {
    button.addEventListener("click", function () {
      var th = button.parentNode, column = th.cellIndex, up = th.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      th.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort(function (a, b) { return compare(a, b, column, up ? 1 : -1); });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
  words.addEventListener("input", filter);
  stage.addEventListener("change", filter);
  filter();
})();
