"""All cases by kind, in the order of the table."""

from tests.faults.cases import checkpoints, commands, configurations, drawn, general, runs, stages, texts
from tests.faults.counts import count

KINDS = {
    "train": general.cases(),
    "configuration files": configurations.cases(),
    "stages": stages.cases(),
    "texts": texts.cases(),
    "commands": commands.cases(),
    "checkpoints": checkpoints.cases(),
    "runs": runs.cases(),
    "drawn": drawn.cases(count("DRAWN", 60), count("SEED", 0)),
}
