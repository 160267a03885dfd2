"""HTML of the web page. It loads nothing from other servers."""

from __future__ import annotations

from .viewer import KEYS

BUTTONS = "\n".join(
    f'<button data-key="{key}" title="{action}: key {key}">{action} <kbd>{key}</kbd></button>'
    for key, action in KEYS.items()
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src 'self' data:; connect-src 'self';
               style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>densevision webcam</title>
<style>
  body { margin: 0; background: #181818; color: #e6e6e6; font: 15px system-ui, sans-serif; text-align: center; }
  img { display: block; margin: 1rem auto; max-width: 96vw; max-height: 82vh; min-width: min(960px, 96vw);
        object-fit: contain; background: #000; }
  button { margin: .2rem; padding: .5rem .9rem; border: 1px solid #555; border-radius: .4rem; background: #2a2a2a;
           color: inherit; font: inherit; cursor: pointer; }
  button:hover, button:focus-visible { background: #3a3a3a; border-color: #999; }
  button[aria-pressed=true] { background: #8a2020; border-color: #d05050; }
  button:disabled { opacity: .4; cursor: default; }
  kbd { opacity: .6; font: inherit; margin-left: .4rem; }
  p { min-height: 1.4em; }
</style>
</head>
<body>
<img id="image" src="/stream" alt="The newest frame and its predictions">
<div id="keys">
BUTTONS
</div>
<p id="message" role="status"></p>
<script>
  const button = key => document.querySelector(`button[data-key="${key}"]`)
  const setMessage = text => { document.getElementById("message").textContent = text }
  const press = key => fetch("/key/" + key, { method: "POST" }).then(update)
  document.querySelectorAll("button").forEach(one => one.onclick = () => press(one.dataset.key))
  document.onkeydown = event => {
    if (!event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey && button(event.key)) press(event.key)
  }
  let ended = false
  async function update() {
    if (ended) return
    try {
      const state = await (await fetch("/state")).json()
      button("p").setAttribute("aria-pressed", state.paused)
      button("r").setAttribute("aria-pressed", state.recording)
      ended = Boolean(state.ended)
      setMessage(state.ended || state.message)
    } catch {
      ended = true
      setMessage("The command has ended.")
    }
    if (ended) document.querySelectorAll("button").forEach(one => one.disabled = true)
  }
  setInterval(update, 500)
</script>
</body>
</html>
""".replace("BUTTONS", BUTTONS)
