"""Write the loss of a model without data on its card: beside the Gaussian's and the mean's, on its own samples.

``python tools/own_loss.py galaxies-hsc64``. The weights are another package's; the card is ours.
"""

import json
import sys

from atelier.subject import subject
from atelier.trained import measured_loss
from painters.files import replacing
from painters.models.registry import BUNDLED

LEVELS, PICTURES = 24, 500

for name in sys.argv[1:]:
    path = BUNDLED / name / "card.json"
    loss = measured_loss(subject(name, device="cpu"), (LEVELS, PICTURES))
    loss = {
        key: [float(f"{v:.6g}") for v in value] if isinstance(value, list) else value for key, value in loss.items()
    }
    with replacing(path) as target:
        target.write_text(json.dumps(json.loads(path.read_text()) | {"loss": loss}, indent=1) + "\n")
    print(f"wrote {path}")
