"""What each feature of a definition is, for people and machines."""

from typing import Any

from features.definition import FeatureDefinition


def features_told(definition: FeatureDefinition) -> list[dict[str, Any]]:
    """Give each feature's name, meaning, formula (where declared), bounds and expected sign."""
    return [
        {
            "name": feature.name,
            "meaning": feature.meaning,
            "formula": definition.formulas.get(feature.name, ""),
            "minimum": feature.minimum,
            "maximum": feature.maximum,
            "monotone": feature.monotone,
        }
        for feature in definition.schema.features
    ]


def feature_page(definition: FeatureDefinition) -> str:
    """Write a page of Markdown with a row for each feature, from the declaration."""
    lines = [
        f"# The features of `{definition.name}`",
        "",
        f"Written by `creditstream features describe {definition.name} -o FILE` from the one",
        "declaration of each; a test fails where this page is not what it says. A plus or minus",
        "says that the model's default probability may only rise or fall with the feature.",
        "",
        "| feature | meaning | formula | between | sign |",
        "| --- | --- | --- | --- | --- |",
    ]
    for told in features_told(definition):
        bounds = [told["minimum"], told["maximum"]]
        between = " and ".join("…" if bound is None else f"{bound:g}" for bound in bounds)
        sign = {0: "", 1: "+", -1: "-"}[told["monotone"]]
        formula = f"`{told['formula']}`" if told["formula"] else ""
        lines.append(f"| `{told['name']}` | {told['meaning']} | {formula} | {between} | {sign} |")
    return "\n".join(lines) + "\n"
