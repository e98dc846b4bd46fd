"""Context or capacity? What the controls say of an LSTM's gain, in a sentence built from the figures."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from segmentation.analysis.cells import Cell
from segmentation.analysis.findings import Finding, points

MATCHED = 0.9, 1.1  # shares of the LSTM's parameters with which a control tells capacity from context
# What a control still has of what the LSTM has.
LEFT = {
    "mlp": "no context",
    "conv": "context from near by",
    "attention": "context in no order",
    "shuffle": "context in a random order",
    "frozen": "random, unlearnt context",
}
# What only these controls can tell of a gain.
QUESTIONS = {"frozen": "learnt", "shuffle": "in an order of neighbours"}


class Contest(NamedTuple):
    """One control of an LSTM."""

    kind: str  # its choice: `mlp`, `conv`, ...
    name: str  # that, or the cell's label where several are of one kind
    gain: Finding  # of the control over none
    lead: Finding  # of the LSTM over the control
    ratio: float | None  # the control's parameters in the slot, of the LSTM's
    same_scans: bool  # as far as the control scans at all

    @property
    def unmatched(self) -> bool:
        return self.ratio is not None and not MATCHED[0] <= self.ratio <= MATCHED[1]

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f", {self.ratio:.2f} of its parameters"
        return f"{self.name} {points(self.gain.primary.mean)} ({LEFT.get(self.kind, 'a control')}{ratio})"


def context_or_capacity(findings: Sequence[Finding]) -> list[str]:
    """A sentence for each LSTM that has been compared with none and with at least one control."""
    gains = {id(finding.pair.other): finding for finding in findings if finding.pair.base.role == "none"}
    texts = []
    for finding in gains.values():
        lstm = finding.pair.other
        leads = [lead for lead in findings if lead.pair.other is lstm and lead.pair.base.role == "control"]
        kinds = [kind_of(lead.pair.base) for lead in leads]
        contests = [
            Contest(
                kind,
                kind if kinds.count(kind) == 1 else control.label,
                gains[id(control)],
                lead,
                ratio(control, lstm),
                same_scans(control, lstm),
            )
            for kind, lead in zip(kinds, leads, strict=True)
            if id(control := lead.pair.base) in gains
        ]
        if contests:
            texts.append(f"{figures(finding, contests)} {verdict(finding, contests)}")
    return texts


def figures(gain: Finding, contests: Sequence[Contest]) -> str:
    """What was gained over none, by the LSTM and by its controls."""
    others = ", ".join(map(str, contests))
    return (
        f"Context or capacity? Over none, {gain.pair.other.label} gains {points(gain.primary.mean)} points, {others}."
    )


def verdict(gain: Finding, contests: Sequence[Contest]) -> str:
    """What follows from it, as far as the corrected intervals allow."""
    if not gain.claimed or gain.primary.mean < 0:
        return "The LSTM's gain is not to be told from chance, so there is nothing yet to explain."
    if unmatched := [contest.name for contest in contests if contest.unmatched]:
        verb = "have" if len(unmatched) > 1 else "has"
        return (
            f"{' and '.join(unmatched)} {verb} not as many parameters, so this does not tell capacity from context: "
            "train the controls with the LSTM's own settings (lstm.order, lstm.hidden_size and so on)."
        )
    if others := [contest.name for contest in contests if not contest.same_scans]:
        verb = "scan" if len(others) > 1 else "scans"
        return (
            f"{' and '.join(others)} {verb} in another order than the LSTM, so this does not tell what its gain is "
            "owed to: train the controls with its lstm.order (match=renet: ReNet's)."
        )
    beaten = [contest for contest in contests if contest.lead.claimed and contest.lead.primary.mean > 0]
    ahead, kinds = [contest.name for contest in beaten], {contest.kind for contest in beaten}
    behind = [contest.name for contest in contests if contest.lead.claimed and contest.lead.primary.mean < 0]
    level = [contest.name for contest in contests if not contest.lead.claimed]
    parts = [
        f"{words} {' and '.join(names)}"
        for words, names in (
            ("ahead of", ahead),
            ("behind", behind),
            ("not to be told apart from", level),
        )
        if names
    ]
    if ahead and not level and not behind:
        conclusion = f"so its gain is {explanation(kinds)}"
    elif "mlp" in kinds:
        conclusion = "so capacity alone does not explain its gain, but neither is its scan needed for it"
    elif ahead:
        conclusion = "so capacity remains as an explanation"
    else:
        conclusion = "so capacity explains its gain as well as context does"
    return f"It is {', '.join(parts)}, {conclusion}."


def explanation(ahead: Collection[str]) -> str:
    """What an LSTM has that all of its controls lack, as far as those that were trained tell."""
    told = [word for name, word in QUESTIONS.items() if name in ahead]
    untold = {f"lstm={name}": word for name, word in QUESTIONS.items() if name not in ahead}
    found = ", ".join(["context from further away" if "conv" in ahead else "context", *told, "and not capacity"])
    if not untold:
        return found
    return f"{found}; whether it must be {' and '.join(untold.values())}, {' and '.join(untold)} would tell"


def ratio(control: Cell, lstm: Cell) -> float | None:
    """Parameters of the control in the LSTM's place, as a share of the LSTM's."""
    ours, its = (cell.runs[0].metrics.get("lstm_parameters") for cell in (control, lstm))
    return ours / its if ours and its else None


def kind_of(control: Cell) -> str:
    """What the control was chosen by."""
    return str(control.choices.get("lstm", control.label))


def same_scans(control: Cell, lstm: Cell) -> bool:
    """Whether a control that is an LSTM of its own (`QUESTIONS`) scans as the other does."""
    kind = kind_of(control)
    ours, its = (cell.settings["lstm"] for cell in (control, lstm))
    if kind not in QUESTIONS or (kind == "shuffle" and ours.get("order") == "shuffle"):  # its own, one long random scan
        return True
    return all(ours.get(key) == its.get(key) for key in ("order", "order_args", "combine"))
