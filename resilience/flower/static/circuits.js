// Keeps a Circuits page as fresh as the store, without touching what the user is doing: only what differs
// is changed, so focus, selection, scrolling and half-filled forms stay.
(function () {
  "use strict";

  var PERIOD = 2000;
  var live = document.getElementById("circuits-live");
  var fresh = document.getElementById("circuits-fresh");
  var dot = document.getElementById("circuits-dot");
  var news = document.getElementById("circuits-news");
  var pause = document.getElementById("circuits-pause");
  var address = new URL(window.location.pathname + window.location.search, window.location.origin);
  var timer = null;
  var asking = null;
  var paused = false;

  address.searchParams.set("part", "live");

  function keyOf(node) {
    return node.nodeType === 1 ? node.getAttribute("data-key") : null;
  }

  function morphAttributes(old, now) {
    Array.from(old.attributes).forEach(function (attribute) {
      if (!now.hasAttribute(attribute.name)) { old.removeAttribute(attribute.name); }
    });
    Array.from(now.attributes).forEach(function (attribute) {
      if (old.getAttribute(attribute.name) !== attribute.value) { old.setAttribute(attribute.name, attribute.value); }
    });
  }

  // Makes old look like now. Children with a data-key are found by it wherever they stand.
  function morph(old, now) {
    var keyed = {}, stays = {}, next;
    morphAttributes(old, now);
    Array.from(now.childNodes).forEach(function (child) { stays[keyOf(child)] = true; });
    Array.from(old.childNodes).forEach(function (child) {
      var key = keyOf(child);
      if (key && stays[key]) { keyed[key] = child; } else if (key) { old.removeChild(child); }
    });
    next = old.firstChild;
    Array.from(now.childNodes).forEach(function (wanted) {
      var key = keyOf(wanted), found = key ? keyed[key] : next;
      while (!key && found && keyOf(found)) { found = found.nextSibling; }
      if (found && found.nodeType === wanted.nodeType && found.nodeName === wanted.nodeName) {
        while (key && next !== found && next && !keyOf(next)) { next = remove(old, next); } // else found would move
        if (found !== next) { old.insertBefore(found, next); } else { next = next.nextSibling; }
        if (found.nodeType === 1) { morph(found, wanted); }
        else if (found.nodeValue !== wanted.nodeValue) { found.nodeValue = wanted.nodeValue; }
      } else {
        old.insertBefore(document.importNode(wanted, true), next);
      }
    });
    while (next) { next = remove(old, next); }
  }

  function remove(parent, child) {
    var next = child.nextSibling;
    parent.removeChild(child);
    return next;
  }

  function states(root) {
    var found = {};
    root.querySelectorAll("[data-service]").forEach(function (row) {
      found[row.dataset.service] = row.dataset.state + (row.dataset.reason ? ", " + row.dataset.reason.replace(/_/g, " ") : "");
    });
    return found;
  }

  function announce(before, after) {
    var changed = Object.keys(after).filter(function (name) { return before[name] !== after[name]; });
    if (changed.length) {
      news.textContent = changed.map(function (name) { return name + " is now " + after[name]; }).join(". ");
    }
  }

  function tell(text, how) {
    if (fresh.textContent !== text) { fresh.textContent = text; }
    dot.className = "status-dot " + how;
  }

  function look() {
    var asked = fetch(address, { credentials: "same-origin", cache: "no-store" }).then(function (reply) {
      if (reply.redirected || reply.status === 401 || reply.status === 403) { throw new Error("Log in again: reload this page"); }
      if (!reply.ok) { throw new Error("Flower answers " + reply.status + ", trying again"); }
      return reply.text();
    }).then(function (text) {
      if (asked !== asking) { return; }
      var now = new DOMParser().parseFromString(text, "text/html").getElementById("circuits-live");
      var before = states(live);
      morph(live, now);
      announce(before, states(live));
      tell("Live", "status-dot-live");
    }).catch(function (error) {
      if (asked === asking) { tell(error instanceof TypeError ? "Flower does not answer, trying again" : error.message, "status-dot-error"); }
    }).then(function () {
      if (asked === asking) { later(); }
    });
    asking = asked;
  }

  function later() {
    clearTimeout(timer);
    if (!paused && !document.hidden) { timer = setTimeout(look, PERIOD); }
  }

  function now() {
    clearTimeout(timer);
    look();
  }

  pause.hidden = false;
  pause.addEventListener("click", function () {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) { clearTimeout(timer); asking = null; tell("Paused", ""); } else { now(); }
  });
  document.addEventListener("visibilitychange", function () {
    if (!document.hidden && !paused) { now(); }
  });

  document.querySelectorAll("form.circuit-controls").forEach(function (form) {
    form.addEventListener("submit", function (event) {
      var button = event.submitter, answer = form.querySelector("output");
      event.preventDefault();
      if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) { return; }
      var body = new URLSearchParams(new FormData(form));
      if (button.name) {
        body.append(button.name, button.value);
        body.delete("id");
      }
      form.setAttribute("aria-busy", "true");
      answer.textContent = "";
      fetch(window.location.pathname, {
        method: "POST", body: body, credentials: "same-origin", headers: { "Accept": "application/json" }
      }).then(function (reply) {
        var kind = reply.headers.get("Content-Type") || "";
        return kind.indexOf("json") >= 0 ? reply.json() : { error: "Flower refuses this (" + reply.status + "): reload the page, log in if asked" };
      }, function () {
        return { error: "Flower does not answer; nothing is known of what became of this" };
      }).then(function (told) {
        answer.textContent = told.error || told.done;
        answer.classList.toggle("circuit-error", Boolean(told.error));
        if (!told.error) { form.reset(); }
        form.removeAttribute("aria-busy");
        now();
      });
    });
  });

  document.querySelectorAll("#circuit-act").forEach(function (form) {
    function limit() {
      var act = form.elements.act.value;
      form.elements.seconds.disabled = act === "reset" || act === "release";
    }
    form.addEventListener("change", limit);
    form.addEventListener("reset", function () { setTimeout(limit); });
  });

  tell("Live", "status-dot-live");
  later();
}());
