"""The page that shows a served screen: textual-serve's terminal, and nothing from elsewhere."""

# The terminal measures its cells as soon as it is made, and again whenever its size changes. Made
# before its font is there, it measures another one: after the next change the rows at the bottom
# lay below the window. And keys go to it from the beginning, not only once it was clicked at: when
# its program draws, for before that there is no socket, or nobody who reads it.
SCRIPT = """\
"use strict";
addEventListener("DOMContentLoaded", async () => {
  await document.fonts.load('16px "Roboto Mono"').catch(() => []);
  const body = document.body;
  const drawn = new MutationObserver(() => {
    if (body.classList.contains("-first-byte")) {
      drawn.disconnect();
      document.querySelector(".xterm-helper-textarea").focus();
    }
  });
  drawn.observe(body, { attributeFilter: ["class"] });
  const terminal = document.createElement("script");
  terminal.src = "static/js/textual.js";
  terminal.onload = () => {
    const begin = window.onload; // the page may have been loaded before
    window.onload = null;
    begin();
  };
  document.head.append(terminal);
});
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>p2ptui</title>
<link rel="stylesheet" href="static/css/xterm.css">
<link rel="icon" href="data:,">
<style>
@font-face {{
  font-family: "Roboto Mono"; src: url("static/fonts/RobotoMono-VariableFont_wght.ttf");
}}
html, body {{ margin: 0; height: 100%; background: #0e1116; color: #c9d1d9; overflow: hidden; }}
.textual-terminal {{ width: 100vw; height: 100vh; }}
p {{ font: 16px "Roboto Mono", monospace; position: absolute; inset: 40% 0; text-align: center; }}
p, body.-closed .textual-terminal {{ display: none; }}
body.-closed p {{ display: block; }}
</style>
<script src="page.js"></script>
</head>
<body>
<p>The screen was left. Reload the page for another.</p>
<div id="terminal" class="textual-terminal" data-font-size="16"
 data-session-websocket-url="ws://{host}/{token}/ws"></div>
</body>
</html>
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src ws://{host}; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


def page(host: str, token: str) -> tuple[str, str]:
    """(HTML, Content-Security-Policy). `host` was checked: a loopback name and a port."""
    return _PAGE.format(host=host, token=token), _POLICY.format(host=host)
