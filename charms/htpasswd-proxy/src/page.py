"""The page at ``/``: what is behind the password."""

from __future__ import annotations

import html
from collections.abc import Iterable

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 4rem auto; max-width: 36rem; padding: 0 1rem;
  color: #1c1c1c; background: #fafafa; }}
h1 {{ font-size: 1.4rem; font-weight: 600; }}
ul {{ list-style: none; padding: 0; }}
a {{ display: block; margin: .5rem 0; padding: .8rem 1rem; border: 1px solid #d8d8d8;
  border-radius: .4rem; background: #fff; color: #0a58a6; text-decoration: none; }}
a:hover, a:focus {{ border-color: #0a58a6; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def render(title: str, paths: Iterable[str]) -> str:
    """Return the page.

    Args:
        title: its heading.
        paths: names of the upstreams, each of which is one path element. The links are relative,
            so that they hold behind an ingress that adds a path of its own.
    """
    items = "\n".join(
        f'<li><a href="{html.escape(path)}/">{html.escape(path)}</a></li>' for path in paths
    )
    body = f"<ul>\n{items}\n</ul>" if items else "<p>Nothing is related to this proxy yet.</p>"
    return _PAGE.format(title=html.escape(title), body=body)
