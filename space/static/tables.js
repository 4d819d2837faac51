// Tables (space/parts/table.py): sorted by a click on a heading, columns chosen, saved as CSV or JSON.
// What is chosen stands in the address as NAME.sort (a key, with - before it from the largest down) and NAME.columns.
(() => {
  const chosen = () => [...new URLSearchParams(window.location.search)].filter(([name]) => name.includes("."));

  // An address of this page with what tables say in the present one.
  window.p2zooTables = (address) => {
    const own = new URLSearchParams(chosen()).toString();
    return own ? `${address}${address.includes("?") ? "&" : "?"}${own}` : address;
  };

  const keep = (name, value) => {
    const address = new URL(window.location.href);
    if (value === null) address.searchParams.delete(name);
    else address.searchParams.set(name, value);
    window.history.replaceState(window.history.state, "", address);
    document.querySelector(".permalink")?.setAttribute("href", address.pathname + address.search);
  };
  const kept = (name) => new URLSearchParams(window.location.search).get(name);

  const heads = (box) => [...box.querySelectorAll("thead th")];
  const rows = (box) => [...box.querySelectorAll("tbody tr")];
  const value = (cell) => {
    const written = cell.dataset.value ?? cell.textContent.trim().replace(/^–$/, "");
    if (written === "" || !cell.classList.contains("num")) return written || null;
    const number = Number.parseFloat(written);
    return Number.isNaN(number) ? written : number;
  };

  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), "en", { numeric: true });

  const sort = (box) => {
    const [, down, key] = /^(-?)(.*)$/.exec(kept(`${box.dataset.name}.sort`) ?? "");
    const at = heads(box).findIndex((head) => key && head.dataset.key === key);
    const body = box.querySelector("tbody");
    const order = rows(box);
    order.forEach((row, i) => { row.dataset.at ??= i; });
    heads(box).forEach((head, i) => {
      if (i === at) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const first = (row) => (at < 0 ? Number(row.dataset.at) : value(row.cells[at]));
    order.sort((a, b) => {
      const [one, other] = [first(a), first(b)];
      if (one === null || other === null) return (one === null) - (other === null); // what is not known stands last
      return (down ? -1 : 1) * compare(one, other) || a.dataset.at - b.dataset.at;
    });
    body.append(...order);
  };

  const choose = (box) => {
    const shown = kept(`${box.dataset.name}.columns`)?.split(",");
    for (const tick of box.querySelectorAll(".choose input")) {
      if (shown) tick.checked = shown.includes(tick.value);
      const at = heads(box).findIndex((head) => head.dataset.key === tick.value);
      for (const row of box.querySelectorAll("tr")) row.cells[at].hidden = !tick.checked;
    }
  };

  const file = (box, kind) => {
    const names = heads(box).map((head) => head.textContent.trim());
    const used = names.map((name, i) => [name, i]).filter(([name, i]) => name && !heads(box)[i].hidden);
    const table = rows(box).map((row) => used.map(([, i]) => value(row.cells[i])));
    if (kind === "json") {
      return JSON.stringify(table.map((row) => Object.fromEntries(row.map((cell, i) => [used[i][0], cell]))), null, 1);
    }
    const plain = (cell) => (typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell ?? ""); // no formula
    const quoted = (cell) => (/[",\n]/.test(plain(cell)) ? `"${String(plain(cell)).replaceAll('"', '""')}"` : plain(cell));
    return [used.map(([name]) => name), ...table].map((row) => row.map(quoted).join(",")).join("\r\n");
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("thead button, .save, a[href]");
    const box = target?.closest(".table-box");
    if (target?.matches("a") && !target.matches(".permalink") && target.pathname === window.location.pathname) {
      for (const [name, said] of chosen()) { // a run is opened and left with its table as it was
        const address = new URL(target.href);
        address.searchParams.set(name, said);
        target.href = address.href;
      }
    } else if (target?.matches(".save")) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([file(box, target.dataset.kind)]));
      link.download = `${box.dataset.name}.${target.dataset.kind}`;
      link.click();
      URL.revokeObjectURL(link.href);
    } else if (target?.matches("thead button")) {
      const { key } = target.closest("th").dataset;
      const name = `${box.dataset.name}.sort`;
      const next = { [key]: `-${key}`, [`-${key}`]: null }[kept(name)];
      keep(name, next === undefined ? key : next);
      if ("cut" in box.dataset) document.getElementById("more")?.click(); // all rows come, and are then sorted
      else sort(box);
    }
  });

  document.addEventListener("change", (event) => {
    const box = event.target.closest?.(".choose")?.closest(".table-box");
    if (!box) return;
    const ticks = [...box.querySelectorAll(".choose input")];
    const usual = ticks.every((tick) => tick.checked === tick.defaultChecked);
    keep(`${box.dataset.name}.columns`, usual ? null : ticks.filter((t) => t.checked).map((t) => t.value).join(","));
    choose(box);
  });

  const arrived = () => {
    for (const box of document.querySelectorAll(".table-box:not([data-ready])")) {
      box.dataset.ready = "";
      if (kept(`${box.dataset.name}.columns`) !== null) choose(box);
      if (kept(`${box.dataset.name}.sort`) !== null) sort(box);
    }
  };
  new MutationObserver(arrived).observe(document.documentElement, { childList: true, subtree: true });
})();
