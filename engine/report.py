"""report.html: one self-contained page about a run."""

from pathlib import Path
from typing import Any

import jinja2

from liit.engine.config import Config
from liit.engine.store import Store, appearing

PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ r.name }}: {{ r.strategy }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd } th:first-child { text-align: left }
</style></head><body>
<h1>{{ r.name }}</h1>
<p>Strategy {{ r.strategy }}, budget {{ config.strategy.budget }}, seed {{ r.seed }}, LiIT {{ r.version }}.</p>
{% if r.accuracy is defined %}
<table><caption>Value of each skill after each timestep, percent</caption>
<tr><th>timestep</th>{% for skill in r.accuracy[0] %}<th>{{ skill }}</th>{% endfor %}<th>mean</th></tr>
{% for row in r.accuracy %}<tr><th>t{{ loop.index0 }} {{ r.releases[loop.index0] }}</th>
{% for value in row.values() %}<td style="background: rgba(40,120,200,{{ '%.2f' % (value / 250) }})">{{ '%.1f' % value }}</td>
{% endfor %}<td>{{ '%.1f' % (row.values() | sum / row | length) }}</td></tr>{% endfor %}
</table>
<table><caption>Over the stream</caption>
{% for name, title in figures %}{% if r[name] is not none %}
<tr><th>{{ title }}</th><td>{{ '%.1f' % r[name] }}</td></tr>{% endif %}{% endfor %}
</table>
{% endif %}
<table><caption>Samples</caption>
<tr><th>timestep</th><th>pool</th><th>quarantined</th><th>selected</th><th>removed</th></tr>
{% for row in r.samples %}<tr><th>t{{ loop.index0 }} {{ r.releases[loop.index0] }}</th>
{% for name in ('pool', 'quarantine', 'selection', 'removed') %}<td>{{ row.get(name, '') }}</td>{% endfor %}</tr>
{% endfor %}</table>
<table><caption>Seconds</caption>
{% for name, seconds in r.seconds.items() %}<tr><th>{{ name }}</th><td>{{ '%.1f' % seconds }}</td></tr>{% endfor %}
</table>
</body></html>
"""
)
FIGURES = (
    ("average_accuracy", "average accuracy at the end, percent"),
    ("relative_gain", "relative gain over the sequential upper bounds, percent"),
    ("forgetting_rate", "forgetting rate, percent"),
    ("max_forgetting", "largest drop from a skill's best, mean, points"),
    ("backward_transfer", "backward transfer, points"),
    ("forward_transfer", "forward transfer, points"),
    ("gain_over_base", "gain over the base model, points"),
)


def write_report(store: Store, config: Config, results: dict[str, Any]) -> Path:
    """Write the page and return its path."""
    path = store.root / "report.html"
    with appearing(path) as temporary:
        temporary.write_text(PAGE.render(r=results, config=config, figures=FIGURES), encoding="utf-8")
    return path
