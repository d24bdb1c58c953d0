"""Model cards: Towhee's data class, written in full and read back."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from workers.train._towhee import ModelCard as TowheeModelCard

CARD_NAME = "README.md"


class ModelCard(TowheeModelCard):
    """Towhee's card, whose list of data sets can be written and which can be turned into JSON and back."""

    def save_model_card(self, save_directory_or_file: str | Path) -> None:
        """Write the card as Markdown to a file, or as README.md into a folder."""
        path = Path(save_directory_or_file)
        (path / CARD_NAME if path.is_dir() else path).write_text(render_card(self), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return card_fields(self)

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(card_fields(self), indent=2, default=str)

    @staticmethod
    def from_json(text: str) -> "ModelCard":
        """A card out of `to_json`; its training configuration stays plain data."""
        return ModelCard(**json.loads(text))


def card_fields(card: TowheeModelCard) -> dict[str, Any]:
    """All fields of any card, ours or Towhee's, as plain data."""
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}  # type: ignore[arg-type]
    config = fields.get("training_config")
    if config is not None and hasattr(config, "to_dict"):
        fields["training_config"] = config.to_dict()
    return fields


def render_card(card: TowheeModelCard) -> str:
    """The card as Markdown."""
    fields = card_fields(card)
    parts = [f"# {fields['model_name']}"]
    if fields["model_overview"]:
        parts.append(str(fields["model_overview"]))
    parts += [_section("Data sets", fields["datasets"]), _section("Tasks", fields["tasks"])]
    parts += [_section("Tags", fields["tags"]), _section("Language", fields["language"])]
    parts += [_section("Training", fields["training_summary"]), _section("Results", fields["eval_results"])]
    parts.append(_section("Configuration", fields["training_config"]))
    architecture = fields.get(
        "model_architecture"
    )  # set by Towhee's trainer, not a declared field everywhere
    if architecture:
        parts.append(f"## Architecture\n\n```\n{architecture}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, value: Any) -> str:  # noqa: ANN401  a card's field
    if not value:
        return ""
    if isinstance(value, dict):
        lines = [f"- {name}: {part}" for name, part in value.items()]
    elif isinstance(value, list | tuple):
        lines = [f"- {part}" for part in value]
    else:
        lines = [str(value)]
    return f"## {title}\n\n" + "\n".join(lines)
