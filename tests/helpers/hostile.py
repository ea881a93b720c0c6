"""Names that would be markup, scripts, templates, events or escapes, if a page took them for anything but text."""

from __future__ import annotations

NAMES = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "\"><svg onload=alert(1)> ' onmouseover='alert(1)",
    "</main></body><!-- ",
    "]]>&lt;b&gt;&amp;&#60;i>",
    "{{ 7 * 7 }}{% for x in y %}${7*7}",
    "javascript:alert(1)//",
    "line\nevent: gone\ndata: x\r\n\r\nnext",
    "\x1b[31mred\x07\x00bell".replace("\x00", ""),
    "turn\u202eedis\u2066 in\u200bvisible\ufeff",
    "=cmd|' /C calc'!A0",
    "a" * 3000,
    "e" + "\u0301" * 40,
    " ",
    "",
)
