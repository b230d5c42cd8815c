"""One classifier of a checkpoint that has several: what a bundle can hold, for a server answers one softmax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tenclip_api.errors import CheckpointError
from tenclip_training.heads import heads_of
from tenclip_training.loaders.any import Loaded
from tenclip_training.models import create_model

SIGMOID_NOTE = (
    "trained with a sigmoid for each class, and a server answers one softmax over all of them: within a clip the order "
    "of the classes is the model's, the scores are not"
)


def with_sigmoid_note(loaded: Loaded) -> Loaded:
    """The same, with a note where a server's scores are not those that the model was trained for."""
    config = loaded.provenance.get("config")
    objective = config.get("objective") if isinstance(config, Mapping) else None
    if not isinstance(objective, Mapping) or "sigmoid" not in str(objective.get("loss", "")):
        return loaded
    notes = [*loaded.provenance.get("notes", []), SIGMOID_NOTE]
    return dataclasses.replace(
        loaded, notes=(*loaded.notes, SIGMOID_NOTE), provenance={**loaded.provenance, "notes": notes}
    )


def select_head(loaded: Loaded, name: str | None, *, source: str) -> Loaded:
    """The same backbone with the classifier called `name`; `loaded` itself where it has one classifier or none.

    Its labels lose their prefix: "verb:cut" becomes "cut". Raises CheckpointError where a name is needed, where there
    is no such head, and for a name where there is one classifier.
    """
    heads = None if loaded.model.num_classes == 0 else heads_of(loaded.labels, loaded.provenance, source=source)
    if heads is None:
        if name is not None:
            has = "one classifier, not several heads" if loaded.model.num_classes else "no classifier here"
            raise CheckpointError(f"{source}: has {has}; leave out --classifier")
        return loaded
    if name not in heads.names:
        got = "" if name is None else f"no head {name!r}: "
        raise CheckpointError(
            f"{source}: {got}has the heads {' and '.join(heads.names)}, and a bundle holds one classifier; choose it "
            f"with --classifier {heads.names[0]}, or leave all of them out with --features-only"
        )
    head = heads[name]
    model = create_model(loaded.model.architecture, **{**loaded.model.config, "num_classes": len(head.labels)})
    weights = loaded.model.state_dict()
    model.load_state_dict({k: v[head.outputs] if k.startswith("fc.") else v for k, v in weights.items()})
    note = f"the classifier {name} of {', '.join(heads.names)}"
    return dataclasses.replace(
        loaded,
        model=model.eval(),
        labels=head.labels,
        notes=(*loaded.notes, note),
        provenance={**loaded.provenance, "classifier": name, "notes": [*loaded.provenance.get("notes", []), note]},
    )
