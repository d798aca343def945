"""The alert rules and the dashboard in ``docs/metrics``, as promtool sees them; and the metrics themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from mpbroadcast.metrics import families, labelled, render
from tests.cli.pictures import lane, stats, watcher

FILES: Final = Path(__file__).parents[2] / "docs" / "metrics"
ALERTS: Final = (FILES / "alerts.yaml").read_text(encoding="utf-8")
DASHBOARD: Final = json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))
EXPRESSIONS: Final = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
NUMBERS: Final = stats(
    lanes=[lane(accepted=3, refused={"lane_full": 1})],
    watchers=[watcher(handled=2, forwarded=2, counts={"created": 2})],
)


def promtool(*arguments, **options):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    command = ["promtool", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)
    return done.returncode, done.stdout + done.stderr


def test_promtool_takes_the_alert_rules():
    code, text = promtool("check", "rules", FILES / "alerts.yaml")
    assert (0, True) == (code, "10 rules found" in text), text


def test_the_alerts_are_raised_when_they_should_and_only_then(tmp_path):
    """``alerts_test.yaml`` has the numbers of seven situations."""
    shutil.copy(FILES / "alerts.yaml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    code, text = promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)
    assert 0 == code, text


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path):
    """As recording rules, with Grafana's variables filled in."""
    rules = "groups:\n- name: dashboard\n  rules:\n"
    for number, expression in enumerate(EXPRESSIONS):
        filled_in = expression.replace("$__rate_interval", "5m").replace("$broadcaster", ".*")
        rules += f"  - {{record: 'r{number}', expr: {json.dumps(filled_in)}}}\n"
    (tmp_path / "rules.yaml").write_text(rules)
    code, text = promtool("check", "rules", tmp_path / "rules.yaml")
    assert (0, True) == (code, f"{len(EXPRESSIONS)} rules found" in text), text


def test_promtool_finds_nothing_wrong_with_the_metrics():
    code, text = promtool("check", "metrics", input=render(labelled([NUMBERS])))
    assert (0, "") == (code, text)


@pytest.mark.parametrize("text", [ALERTS, " ".join(EXPRESSIONS)], ids=["alerts", "dashboard"])
def test_every_metric_that_is_asked_for_exists(text):
    there = {family.name + sample.suffix for family in families(labelled([NUMBERS])) for sample in family.samples}
    asked = set(re.findall(r"mpbroadcast_\w+", text))
    assert len(asked) > 5
    assert set() == asked - there


def test_panels_do_not_lie_over_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_every_alert_says_what_it_means():
    assert ALERTS.count("- alert:") == ALERTS.count("summary:") == ALERTS.count("description:") == 10
