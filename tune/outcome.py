"""What a study found: a table of all trials, a plot for every figure, and the best setting as a configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from liit.engine.pages.figures import Picture, curves, stacked_bars
from liit.engine.pages.page import Section, write_page
from liit.engine.run.files import appearing
from liit.engine.run.progress import log
from liit.engine.settings.config import located, override, read
from liit.engine.settings.settling import DEFAULT
from liit.selectors import catalog
from liit.tune.objective import SHARE
from liit.tune.spaces import Study, overrides

KEYS = {
    "k": "clustering.k_grid",
    "budget": "strategy.budget",
    "strategy": "strategy.name",
    "options": "strategy.options",
    "vector": "clustering.vector",
}
"""Keys of a selection study in a run's configuration."""


@dataclass(frozen=True)
class Outcome:
    """The finished trials of a study."""

    study: Study
    found: list[dict[str, Any]]
    source: Path | None
    """The profile of a selection study."""

    def table(self) -> pd.DataFrame:
        """A row for each trial: settings, then figures."""
        keys = self.study.space
        rows = [
            {name: value for name, value in one["figures"].items() if name not in keys}
            | {key: _plain(one["trial"][key]) for key in keys}
            for one in self.found
        ]
        frame = pd.DataFrame(rows)
        return frame[[*keys, *(name for name in frame if name not in keys)]]

    def by_setting(self) -> pd.DataFrame:
        """Mean over seeds, settings in the order of the study."""
        keys = [key for key in self.study.space if key != "seed"] or ["seed"]
        return self.table().groupby(keys, sort=False).mean(numeric_only=True).drop(columns="seed", errors="ignore")

    def best(self) -> dict[str, Any]:
        """The setting of best mean metric. Raises ValueError where no trial reported the metric."""
        means = self.by_setting()
        if self.study.metric not in means:
            raise ValueError(f"no trial reports {self.study.metric!r}; they report {', '.join(map(str, means))}")
        at = means[self.study.metric].idxmax() if self.study.mode == "max" else means[self.study.metric].idxmin()
        chosen = at if isinstance(at, tuple) else (at,)
        named = dict(zip([key for key in self.study.space if key != "seed"] or ["seed"], chosen, strict=True))
        return next(
            one["trial"]
            for one in self.found
            if all(_plain(one["trial"][key]) == value for key, value in named.items())
        )

    def write(self, folder: Path) -> None:
        """`table.csv` and `.parquet`, a picture of every figure, `report.html`, and `best.yaml`, which jobs/lifelong.py takes."""
        if not self.found:
            return
        table = self.table()
        with appearing(folder / "table.csv") as temporary:
            table.round(4).to_csv(temporary, index=False)
        with appearing(folder / "table.parquet") as temporary:
            table.to_parquet(temporary)
        means, shares = self._without_shares()
        pictures = {str(figure): curves(means[figure], str(figure)) for figure in means}
        if len(shares.columns):
            pictures["shares"] = stacked_bars(shares, "Share of each task in the selection", "share")
        for figure, picture in pictures.items():
            with appearing(folder / f"{figure}.svg") as temporary:
                temporary.write_text(picture.svg, encoding="utf-8")
        best = self.best()
        self._write_report(folder, best, pictures, means)
        text = yaml.safe_dump(self.configuration(best), sort_keys=False, allow_unicode=True)
        with appearing(folder / "best.yaml") as temporary:
            temporary.write_text(
                f"# Of {len(self.found)} trials the best {self.study.metric}: {best}\n{text}", encoding="utf-8"
            )
        log.info("best %s: %s → %s", self.study.metric, best, folder / "best.yaml")

    def _write_report(
        self, folder: Path, best: dict[str, Any], pictures: dict[str, Picture], means: pd.DataFrame
    ) -> None:
        metric, said = self.study.metric, "largest" if self.study.mode == "max" else "smallest"
        first = [pictures[metric], *(picture for name, picture in pictures.items() if name != metric)]
        lead = f"{len(self.found)} trials of a {self.study.kind} study. The {said} {metric}, mean over seeds: {best}."
        sections = [
            Section("By setting", "Mean over seeds.", first, table=means.reset_index().round(4)),
            Section("Trials", "", table=self.table().round(4)),
        ]
        write_page(folder / "report.html", f"Study: {folder.name}", lead, sections)

    def _without_shares(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`by_setting`, without each task's share of the selection, and these alone."""
        means = self.by_setting()
        shares = means[[name for name in means if str(name).startswith(SHARE)]]
        return means.drop(columns=shares.columns), shares.rename(columns=lambda name: str(name).removeprefix(SHARE))

    def configuration(self, trial: dict[str, Any]) -> dict[str, Any]:
        """A run's whole configuration with a trial's settings."""
        file = self.source.parents[1] / "config.yaml" if self.source else located(self.study.config, DEFAULT.parent)
        if self.study.kind == "training":
            return self._dumped(file, overrides(trial))
        own = []
        for key, value in trial.items():
            section, dot, option = key.partition(".")
            if section == "options" and dot:
                name = f"strategy.options.{option}"
            elif key in KEYS and (key != "vector" or self._clusters(trial)):
                name = KEYS[key]
            else:
                continue  # a seed is no setting, nor is what a strategy that clusters nothing compares
            own.append(override(name, [value] if key == "k" else value))
        return self._dumped(file, own)

    @staticmethod
    def _clusters(trial: dict[str, Any]) -> bool:
        strategy = catalog.get(trial.get("strategy", "adapt-inf"))
        return strategy.clusters or strategy.own_clusters

    def _dumped(self, file: Path, own: list[str]) -> dict[str, Any]:
        dumped: dict[str, Any] = read(file, own).model_dump(mode="json", exclude={"output"})
        return dumped


def _plain(value: Any) -> Any:
    """A list or mapping as text: a table's cell, a group's name."""
    return override("", value)[1:] if isinstance(value, list | dict) else value
