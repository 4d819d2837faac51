"""The 1B row of the GPU bench by FSDP2: started by torchrun, given an execution, it prints what it measured as JSON."""

import json
import sys
from dataclasses import asdict

import torch

from tests.bench.gpu import TOKENIZER
from tests.bench.gpu_rows import REAL, TINY, Bench
from zoo.progress import quiet
from zoo.training.execution import Execution

if __name__ == "__main__":
    quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(TINY if "--toy" in sys.argv else REAL, device, TOKENIZER, full=False)
    bench.execution = Execution(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(bench.train("fsdp2", bench.scale.configs["1B"]))))
